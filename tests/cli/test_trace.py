"""`deepalign trace`, and what the other commands do with a network that they can ask."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepalign_cli.symmetry.spec import Spec
from tests.operations.making import deepalign

NETS = """
import torch
from torch import nn

class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.aux = nn.Linear(8, 2)
    def forward(self, x):
        h = self.fc1(x).relu()
        return self.fc3(h + self.fc2(h).relu())

class Two(Skip):
    def forward(self, x, t):
        return super().forward(x) + t[:, :1]

class Branch(Skip):
    def forward(self, x):
        h = self.fc1(x).relu()
        return self.fc3(self.fc2(h) if h.sum() > 0 else h)

class Odd(Skip):
    def forward(self, x):
        return self.fc3(torch.fft.fft(self.fc1(x)).real)

def skip():
    return Skip()
def with_inputs():
    return Two(), (torch.randn(3, 6), torch.randn(3, 2))
def by_name():
    return Two(), {"x": torch.randn(3, 6), "t": torch.randn(3, 2)}
def two():
    return Two()
def branch():
    return Branch(), torch.randn(3, 6)
def odd():
    return Odd(), torch.randn(3, 6)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    space: dict[str, object] = {}
    exec(NETS, space)
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        torch.save(space["Skip"]().state_dict(), f"{name}.pt")  # type: ignore[operator]
    return tmp_path


def test_a_trace_says_what_moves_and_what_stays_and_why(folder: Path) -> None:
    done = deepalign("trace", "--model", "nets.py:skip", "--input-shape", "6", "-o", "spec.toml")
    assert done.code == 0, done.err
    assert "1 group, 8 units; 5 of 8 floating-point tensors move" in done.out
    assert "fc2\n  weight: +fc1 -fc1\n" in done.out
    assert "aux\n  weight: 2 8 (stays)" in done.out
    assert "nothing that was traced reads it" in done.out
    spec = Spec.parse(Path("spec.toml").read_text())
    assert (spec.groups(), spec.basis) == (("fc1",), "traced and checked")
    again = deepalign("trace", "--model", "nets.py:skip", "--input-shape", "6", "--json")  # from the cache
    assert again.json["groups"] == {"fc1": {"size": 8, "kinds": ["permutation", "scale"], "tensors": 5}}
    assert again.json["residual"] < 1e-10
    checked = deepalign("trace", "--model", "nets.py:skip", "--input-shape", "6", "--check", "--json").json
    assert set(checked["checks"]) == {"permutations", "scales"}
    assert max(checked["checks"].values()) < 1e-10
    assert again.json["unreached"] == ["aux.weight", "aux.bias"]


@pytest.mark.parametrize("make", ["with_inputs", "by_name"])
def test_a_factory_may_return_inputs(folder: Path, make: str) -> None:
    done = deepalign("trace", "a.pt", "--model", f"nets.py:{make}", "--json")
    assert done.code == 0, done.err
    assert done.json["axes"]["fc2.weight"] == "+fc1 -fc1"


def test_a_written_spec_is_given_back(folder: Path) -> None:
    deepalign("trace", "--model", "nets.py:with_inputs", "-o", "spec.toml")
    done = deepalign(
        "verify", "a.pt", "a.pt", "--spec", "spec.toml", "--model", "nets.py:with_inputs", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["spec"]["passed"]


def test_align_asks_the_network_and_the_output_needs_none(folder: Path) -> None:
    how = ["-m", "weights", "-o", "c.safetensors"]
    done = deepalign("align", "a.pt", "b.pt", "--model", "nets.py:with_inputs", *how, "--json")
    assert done.code == 0, done.err
    assert (done.json["basis"], done.json["assumptions"]) == ("traced and checked", [])
    later = deepalign("verify", "b.pt", "c.safetensors", "--json")
    assert (later.code, later.json["basis"]) == (0, "traced and checked")
    shown = deepalign("inspect", "c.safetensors", "--json").json
    assert shown["basis"] == "traced and checked"
    assert shown["tensors"]["fc2.weight"]["axes"] == "fc1 fc1"


def test_a_strangers_word_that_a_spec_was_checked_is_not_taken(folder: Path) -> None:
    wrong = Path("wrong.toml")
    wrong.write_text(
        'basis = "traced and checked"\n[axes]\n"fc1.weight" = "p 6"\n"fc1.bias" = "p"\n"fc2.weight" = "q p"\n'
        '"fc2.bias" = "q"\n"fc3.weight" = "3 q"\n'
    )
    how = ["--spec", wrong, "--model", "nets.py:with_inputs", "-m", "weights", "-o", "c.safetensors"]
    done = deepalign("align", "a.pt", "b.pt", *how)
    assert done.code == 3
    assert "the spec is wrong" in done.err
    assert "suspect" in done.err
    assert not Path("c.safetensors").exists()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        ([], 2, "nothing says what to trace"),
        (["--model", "nets.py:two"], 2, "runs on no usual input shape"),
        (["--model", "nets.py:skip", "--input-shape", "7"], 2, "does not run on inputs of shape 7"),
        (
            ["--model", "nets.py:branch"],
            3,
            "Branch cannot be traced: what it does depends on",
        ),
        (
            ["--model", "nets.py:odd", "--outputs", "x"],
            3,
            "there is no output 'x': what it returns has no names",
        ),
        (["--model", "nets.py:gone"], 2, "gone"),
        (["missing.pt", "--model", "nets.py:skip"], 2, "missing.pt"),
    ],
)
def test_what_cannot_be_traced_is_said_in_one_sentence(
    folder: Path, args: list[str], code: int, words: str
) -> None:
    done = deepalign("trace", *args)
    assert (done.code, done.out) == (code, "")
    assert words in done.err.splitlines()[0]
    assert len(done.err.splitlines()) == 2
    assert "Traceback" not in done.err


def test_an_operation_without_a_rule_holds_what_it_meets(folder: Path) -> None:
    told = deepalign("trace", "--model", "nets.py:odd", "--json").json
    assert told["axes"] == {}
    assert any("fft" in where for where in told["no_rule"])
    assert any("no rule for" in reason for reason in told["stays"])


def test_a_network_that_cannot_be_traced_is_read_and_tried(folder: Path) -> None:
    how = ["--model", "nets.py:branch", "-m", "weights", "-o", "c.safetensors"]
    done = deepalign("align", "a.pt", "b.pt", *how)
    assert done.code == 3  # names and shapes do not tell, with `aux` beside the chain; or the check fails
    assert not Path("c.safetensors").exists()
