"""Two networks of sines on the command line: phases move, are kept in files, and change no output."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.writer import write_tensors
from tests.operations.making import deepalign

MODEL = """
import torch
from torch import nn


class Sine(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.linear = nn.Linear(n_in, n_out)

    def forward(self, x):
        return torch.sin(30.0 * self.linear(x))


def make():
    return nn.Sequential(Sine(2, 16), Sine(16, 12), nn.Linear(12, 1))
"""


class Net(nn.Module):
    """What MODEL makes, without its file."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w = self.weights
        for i in range(2):
            x = torch.sin(30.0 * (x @ w[f"{i}.linear.weight"].T + w[f"{i}.linear.bias"]))
        return x @ w["2.weight"].T + w["2.bias"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(MODEL)
    shapes = {"0.linear": (16, 2), "1.linear": (12, 16), "2": (1, 12)}
    for seed, name in enumerate("ab"):
        rng = torch.Generator().manual_seed(seed)
        weights = {f"{n}.weight": torch.randn(s, generator=rng).double() / s[1] for n, s in shapes.items()}
        biases = {f"{n}.bias": torch.randn(s[0], generator=rng).double() for n, s in shapes.items()}
        save_file(weights | biases, tmp_path / f"{name}.safetensors")
    return tmp_path


def test_phases_move_and_the_function_stays(files: Path) -> None:
    a, b, out, kept = (str(files / f"{n}.safetensors") for n in ("a", "b", "out", "kept"))
    model = ("--model", f"{files}/net.py:make", "--input-shape", "2")

    done = deepalign("align", a, b, "-m", "weights", *model, "-o", out, "--save-alignment", kept)

    assert done.code == 0, done.err
    assert "shift/g0.linear" in load_file(kept)
    before, after = load_file(b), load_file(out)
    assert not torch.equal(
        before["0.linear.bias"].abs().sort().values, after["0.linear.bias"].abs().sort().values
    )
    x = torch.rand(50, 2, dtype=torch.float64)
    assert torch.allclose(Net(before)(x), Net(after)(x), atol=1e-11)

    done = deepalign("verify", b, out)  # the spec is in the file
    assert done.code == 0, done.err


def test_an_alignment_with_broken_half_turns_is_refused(files: Path) -> None:
    a, b, kept = (str(files / f"{n}.safetensors") for n in ("a", "b", "kept"))
    model = ("--model", f"{files}/net.py:make", "--input-shape", "2")
    out = ("-o", f"{files}/o.safetensors", "--save-alignment", kept)
    assert deepalign("align", a, b, "-m", "weights", *model, *out).code == 0
    file = open_checkpoint(kept)
    tensors = {name: file[name].clone() for name in file}
    tensors["shift/g0.linear"] = tensors["shift/g0.linear"] + 0.5
    broken = files / "broken.safetensors"
    write_tensors(broken, tensors, file.metadata)

    done = deepalign("merge", a, b, "--alignment", str(broken), "-o", str(files / "m.safetensors"))

    assert done.code == 3
    assert "phases" in done.err
