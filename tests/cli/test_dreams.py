"""Dreams in the place of data, from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.dreams.networks import DESIGN, images, saved_pair
from tests.operations.making import deepalign, metadata, network, save, tensors

FEW = ("--dream", "12", "--dream-steps", "2")


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path]:
    return saved_pair(tmp_path)


def test_networks_with_batchnorm_dream_by_themselves(ends: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    done = deepalign("align", *ends, "-o", out, "--json")

    told = "inputs were dreamed: 64 of 1x8x8 of what BatchNorm remembers, in 80 steps"
    assert any(note.startswith(told) for note in done.json["notes"])
    assert "on dreams" in done.json["why"]
    moved, x = tensors(out), torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(DESIGN(moved, x), DESIGN(tensors(ends[1]), x))
    again = deepalign("align", *ends, "-o", tmp_path / "p.safetensors", "--json")
    assert again.json["groups"] == done.json["groups"]


def test_they_do_not_where_that_is_not_wanted(ends: tuple[Path, Path], tmp_path: Path) -> None:
    done = deepalign("align", *ends, "-o", tmp_path / "o.safetensors", "--no-dream", "--json")

    assert not any("dream" in note for note in done.json["notes"])


@pytest.mark.parametrize(
    ("method", "how"),
    [("activations", ()), ("dual", ()), ("sinkhorn", ("--steps", "2")),
     ("deepalign", ("--refine", "ste", "--steps", "2"))],
)  # fmt: skip
def test_whatever_looks_at_data_looks_at_dreams(
    method: str, how: tuple[str, ...], ends: tuple[Path, Path], tmp_path: Path
) -> None:
    done = deepalign("align", *ends, "-m", method, *FEW, *how, "-o", tmp_path / "o.safetensors", "--json")

    assert done.json["method"] == method


def test_the_barrier_on_dreams_is_how_far_the_path_is_from_the_parents(ends: tuple[Path, Path]) -> None:
    told = deepalign("barrier", *ends, *FEW, "--points", "3", "--json").json

    assert told["loss"] == "divergence from the parents"
    assert told["data"] == ["dream, 12 examples"]
    assert all(0 < loss < 1 for path in told["paths"] for loss in path["loss"])


def test_a_merge_is_repaired_on_dreams(ends: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    done = deepalign("merge", *ends, "-m", "weights", "--repair", "dream", *FEW, "-o", out, "--json")

    assert any("2 BatchNorm layers were re-estimated" in note for note in done.json["notes"])
    assert "dream" in metadata(out)["deepalign.repair"]
    plain = tmp_path / "p.safetensors"
    deepalign("merge", *ends, "-m", "weights", "-o", plain)
    same = [name for name, w in tensors(out).items() if w.equal(tensors(plain)[name])]
    assert {name for name in tensors(out) if name not in same} >= {"bn1.running_var", "bn2.running_mean"}


def test_what_was_dreamed_is_kept_to_look_at(ends: tuple[Path, Path], tmp_path: Path) -> None:
    kept = tmp_path / "d.npz"
    deepalign("align", *ends, *FEW, "--save-dreams", kept, "-o", tmp_path / "o.safetensors")

    assert np.load(kept)["inputs"].shape == (12, 1, 8, 8)
    assert (tmp_path / "d.png").read_bytes()[:4] == b"\x89PNG"
    data = ("-m", "activations", "--data", kept)
    assert deepalign("align", *ends, *data, "-o", tmp_path / "q.safetensors", "--json").json["unread"] == []


@pytest.mark.parametrize(
    ("options", "sentence", "code"),
    [
        (["--data", "dream", "--grey"], "--grey has no effect on dreams", 2),
        (["--no-dream", "--dream", "5"], "--no-dream and --dream exclude each other", 2),
        (["-m", "weights", "--no-dream"], "--no-dream has no effect", 2),
        (["-m", "weights", "--dream", "5"], "makes no use of --data", 2),
        (["--save-dreams", "x.txt"], "would be an .npz file", 2),
        (["--save-dreams", "a.safetensors"], "would be an .npz file", 2),
    ],
)
def test_what_makes_no_sense_is_one_sentence(
    options: list[str], sentence: str, code: int, ends: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "o.safetensors"
    done = deepalign("align", *ends, *options, "-o", out)

    assert done.code == code
    assert sentence in done.err
    assert not out.exists()


def test_dreams_do_not_take_the_place_of_what_is_there(ends: tuple[Path, Path], tmp_path: Path) -> None:
    kept = tmp_path / "d.npz"
    kept.write_bytes(b"mine")
    done = deepalign("align", *ends, *FEW, "--save-dreams", kept, "-o", tmp_path / "o.safetensors")

    assert done.code == 2
    assert "exists" in done.err
    assert kept.read_bytes() == b"mine"


def test_an_interrupted_dream_leaves_nothing(
    ends: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deepalign_cli.dreams.dream.dream_of_statistics", interrupted)
    before = set(tmp_path.iterdir())
    options = ("--save-dreams", tmp_path / "d.npz", "-o", tmp_path / "o.safetensors")

    assert deepalign("align", *ends, *FEW, *options).code == 130
    assert set(tmp_path.iterdir()) == before


def test_a_shape_that_nobody_can_know_is_asked_for(tmp_path: Path) -> None:
    factory = tmp_path / "net.py"
    factory.write_text(
        "import torch\nfrom torch import nn\n\n\ndef make():\n"
        "    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]\n"
        "    return nn.Sequential(*layers, nn.Linear(44, 3))\n"
    )
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten()]
    a, b = (tmp_path / f"{name}.pt" for name in "ab")
    for path in (a, b):
        torch.save(torch.nn.Sequential(*layers, torch.nn.Linear(44, 3)).state_dict(), path)
    model = ("--model", f"{factory}:make", "-o", tmp_path / "o.safetensors")

    lost = deepalign("align", a, b, *model)
    assert lost.code == 2
    assert "--input-shape 3x32x32" in lost.err
    assert deepalign("align", a, b, *model, "--input-shape", "1x13x3").code == 0


def test_a_shape_may_be_given_where_networks_dream_by_themselves(tmp_path: Path) -> None:
    paths = [save(network("cifar_resnet", seed), tmp_path / f"{seed}.pt") for seed in range(2)]
    how = ("--dream", "4", "--dream-steps", "2")
    out = ("-o", tmp_path / "o.safetensors", "--force", "--json")
    done = deepalign("align", *paths, "--input-shape", "3x12x20", *out)
    asked = deepalign("align", *paths, "--input-shape", "3x12x20", *how, *out)
    idle = deepalign("align", *paths, "--input-shape", "3x12x20", "--no-dream", *out)

    assert any(" of 3x12x20 of what BatchNorm remembers" in note for note in done.json["notes"])
    assert any("4 of 3x12x20 of what BatchNorm remembers" in note for note in asked.json["notes"])
    assert (idle.code, "--input-shape has no effect" in idle.err) == (2, True)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("barrier", ["--plot", "d.png", "--points", "3"]),
        ("barrier", ["--csv", "d.npz", "--points", "3"]),
        ("landscape", ["-o", "d.png", "--points", "3"]),
        ("align", ["--save-alignment", "d.npz", "-o", "o.safetensors"]),
    ],
)
def test_dreams_and_something_else_do_not_go_into_one_file(
    command: str, options: list[str], ends: tuple[Path, Path], tmp_path: Path
) -> None:
    places = [str(tmp_path / option) if "." in option else option for option in options]
    before = set(tmp_path.iterdir())
    done = deepalign(command, *ends, *FEW, "--save-dreams", tmp_path / "d.npz", *places)

    assert (done.code, "would hold dreams and something else" in done.err) == (2, True)
    assert set(tmp_path.iterdir()) == before


def test_dreams_do_not_take_the_place_of_what_is_read(ends: tuple[Path, Path], tmp_path: Path) -> None:
    real = tmp_path / "real.npz"
    np.savez(real, x_test=images(20).numpy())
    stored = real.read_bytes()
    out = ("--save-dreams", real, "--force", "-o", tmp_path / "o.safetensors")
    merged = deepalign("merge", *ends, "-m", "weights", *FEW, "--repair", real, *out)
    aligned = deepalign("align", *ends, "-m", "activations", "--data", real, *out)

    assert (merged.code, aligned.code) == (2, 2)
    assert "real.npz is one of the inputs" in merged.err
    assert "real.npz is one of the inputs" in aligned.err
    assert real.read_bytes() == stored


def test_a_shape_that_the_network_does_not_take_is_told(ends: tuple[Path, Path], tmp_path: Path) -> None:
    done = deepalign("align", *ends, *FEW, "--input-shape", "3x8x8", "-o", tmp_path / "o.safetensors")

    assert done.code == 2
    assert "takes inputs of 1x8x8, not of 3x8x8" in done.err


@pytest.mark.parametrize(
    ("command", "code"),
    [(["align"], 0), (["align", "--data", "dream"], 3), (["merge", "-m", "weights", "--repair", "dream"], 3)],
)
def test_a_network_that_gives_nan_on_dreams_is_told_where_they_are_asked_for(
    command: list[str], code: int, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n\nclass Lost(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc1, self.bn, self.fc2 = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)\n\n"
        "    def forward(self, x):\n"
        "        return self.fc2(self.bn(self.fc1(x))) / 0 * 0\n"
    )
    paths = [tmp_path / f"{name}.pt" for name in "ab"]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        layers = {"fc1": nn.Linear(6, 8), "bn": nn.BatchNorm1d(8), "fc2": nn.Linear(8, 3)}
        torch.save(nn.ModuleDict(layers).state_dict(), path)
    out = tmp_path / "o.safetensors"
    name, *options = command
    done = deepalign(name, *paths, "--model", f"{tmp_path / 'net.py'}:Lost", *options, "-o", out)

    assert (done.code, out.exists()) == (code, code == 0)
    assert ("NaN or Inf on dreamed inputs" in done.err) == (code != 0)
