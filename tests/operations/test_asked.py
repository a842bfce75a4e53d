"""A network that is named and does not say what may move: that is told, and nothing passes for tried."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.operations.making import deepalign

FORWARDS = {
    "raises": 'raise RuntimeError("no luck")',
    "counts": "self.calls += 1; return self.two(self.one(x).relu()) + self.calls",
    "rolls": "return self.two(self.one(x).relu().roll(1, 1))",
    "sorts": "return self.two(torch.from_numpy(numpy.sort(self.one(x).detach().numpy(), 1)))",
}
CODE = """
import numpy
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.calls = nn.Linear(5, 8), nn.Linear(8, 3), 0
    def forward(self, x):
        {}
def make():
    return Net(), torch.randn(4, 5)
"""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    for seed, name in enumerate(("a.pt", "b.pt")):
        torch.manual_seed(seed)
        one, two = nn.Linear(5, 8), nn.Linear(8, 3)
        parts = {"one": one, "two": two}
        torch.save(
            {f"{k}.{n}": w for k, m in parts.items() for n, w in m.state_dict().items()}, tmp_path / name
        )
    return tmp_path / "a.pt", tmp_path / "b.pt"


def model(folder: Path, forward: str) -> str:
    path = folder / f"{forward}.py"
    path.write_text(CODE.format(FORWARDS[forward]))
    return f"{path}:make"


@pytest.mark.parametrize(
    ("forward", "why"), [("raises", "RuntimeError: no luck"), ("counts", "other outputs each time")]
)
def test_what_was_not_tried_on_the_network_is_an_assumption(
    forward: str, why: str, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    line = ["align", *pair, "-m", "weights", "--model", model(tmp_path, forward), "-o"]
    done = deepalign(*line, tmp_path / "out.safetensors", "--json")
    assert done.code == 0, done.err
    said = done.json["assumptions"][-1]
    assert said.startswith("this is not tried on the network that was named: ")
    assert why in said
    assert deepalign(*line, tmp_path / "strict.safetensors", "--strict").code == 3


def test_a_refusal_does_not_blame_a_spec_that_nobody_gave(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = deepalign(
        "align",
        *pair,
        "-m",
        "weights",
        "--model",
        model(tmp_path, "sorts"),
        "-o",
        tmp_path / "out.safetensors",
    )
    assert done.code == 3
    assert "the spec is wrong: a random element of it changes what the network computes" in done.err
    assert "leave --spec out" not in done.err
    assert "write a spec, --spec FILE.toml" in done.err
    assert not (tmp_path / "out.safetensors").exists()


def test_where_nothing_may_move_that_is_said(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = deepalign("align", *pair, "--model", model(tmp_path, "rolls"), "-o", tmp_path / "out.safetensors")
    assert done.code == 0, done.err
    assert "0 of 0 units moved in 0 groups" in done.out
    assert "note: nothing may move in these networks: B stays as it is" in done.err


def test_one_group_is_one(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = deepalign("align", *pair, "-m", "weights", "-o", tmp_path / "out.safetensors")
    assert "units moved in 1 group\n" in done.out
