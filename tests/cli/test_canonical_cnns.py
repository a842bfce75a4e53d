"""The shipped autoencoders of convolutional networks are found by activation, and refuse the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepalign_cli.models.designs.cnn import CNN
from tests.network.fresh_autoencoders import written
from tests.operations.making import deepalign


def design(activation: str, *, width: int = 16) -> CNN:
    return CNN((1, 16, width, 16), 32, average=True, pools=(), activation=activation, stride=2)


def weights(activation: str, seed: int) -> dict[str, Tensor]:
    return written(f"scalegmn-cnn-{activation}-v1", design(activation), seed)


CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.fc = nn.Conv2d(1, 16, 3, 2, 1), nn.Linear(16, 10)
        self.conv2, self.conv3 = (nn.Conv2d(16, 16, 3, 2, 1) for _ in range(2))

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = conv(x).tanh()
        return self.fc(x.mean((2, 3)))
"""


@pytest.fixture(params=["relu", "tanh"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[str, list[str], Path, Path]:
    """An activation, what to say of it, and two files.

    Shapes do not show whether there is a max-pool, which signs would not pass: the code does.
    """
    activation = request.param
    for seed, name in enumerate("ab"):
        save_file(weights(activation, seed), tmp_path / f"{name}.safetensors")
    (tmp_path / "net.py").write_text(CODE)
    code = ["--model", f"{tmp_path / 'net.py'}:Net", "--input-shape", "1x32x32"]
    known = ["--activation", "relu"] if activation == "relu" else code
    return activation, known, tmp_path / "a.safetensors", tmp_path / "b.safetensors"


def test_a_network_is_carried_by_the_one_of_its_activation(files: tuple[str, list[str], Path, Path]) -> None:
    activation, known, a, _ = files
    out = a.parent / "o.safetensors"
    done = deepalign("canonicalize", a, *known, "-o", out, "--json")
    assert done.code == 0, done.err
    assert done.json["autoencoder"] == f"scalegmn-cnn-{activation}-v1"
    x, net = torch.randn(5, 1, 32, 32, dtype=torch.float64), design(activation)
    before, after = ({n: w.double() for n, w in load_file(path).items()} for path in (a, out))
    assert any(not torch.equal(before[n], after[n]) for n in before)
    assert torch.allclose(net(before, x), net(after, x), atol=1e-5)


def test_the_mean_of_latents_is_by_it_too(files: tuple[str, list[str], Path, Path]) -> None:
    activation, known, a, b = files
    how = (*known, "-o", a.parent / "o.safetensors", "--json", "--force")
    merged = deepalign("merge", a, b, "--combine", "latent", *how)
    assert merged.code == 0, merged.err
    assert merged.json["autoencoder"] == f"scalegmn-cnn-{activation}-v1"


def _nan(tensors: dict[str, Tensor]) -> None:
    tensors["conv2.weight"][0, 0, 0, 0] = float("nan")


def _far(tensors: dict[str, Tensor]) -> None:
    for w in tensors.values():
        w.mul_(30)


def _nothing(_: dict[str, Tensor]) -> None: ...


REFUSED = {
    "an activation that is not told": (_nothing, [], 3, "are for relu or leaky_relu (scalegmn-cnn"),
    "another activation": (_nothing, ["--activation", "gelu"], 3, "if it has another activation, use"),
    "signs that a max-pool would not pass": (_nothing, ["--activation", "tanh"], 3, "(no max-pool)"),
    "NaN": (_nan, ["--activation", "relu"], 3, "holds NaN or Inf"),
    "far from the zoo": (
        _far, ["--activation", "relu", "--decoded", "--max-error", "0.5"], 4, "did not write",
    ),
    "the other one": (
        _nothing, ["--activation", "relu", "--autoencoder", "scalegmn-cnn-tanh-v1"], 3,
        "is for networks whose units have a sign",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_one_sentence_and_no_file(case: str, tmp_path: Path) -> None:
    spoil, words, code, sentence = REFUSED[case]
    tensors, a, out = weights("relu", 0), tmp_path / "a.safetensors", tmp_path / "o.safetensors"
    spoil(tensors)
    save_file(tensors, a)
    done = deepalign("canonicalize", a, *words, "-o", out)
    assert (done.code, sentence in done.err + done.out, out.exists()) == (code, True, False), done.err
    assert "Traceback" not in done.err


def test_another_architecture_is_named(tmp_path: Path) -> None:
    a, out = tmp_path / "a.safetensors", tmp_path / "o.safetensors"
    save_file(design("relu", width=24).init(torch.Generator().manual_seed(0)), a)
    done = deepalign("canonicalize", a, "--activation", "relu", "-o", out)
    assert (done.code, out.exists()) == (3, False)
    assert "this one is 1-16-24-16-10 (3x3 convolutions, a scale for each unit)" in done.err
