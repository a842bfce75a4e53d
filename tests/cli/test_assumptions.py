"""What is assumed is said everywhere, and --strict refuses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import deepalign_cli as da
from deepalign_cli.errors import AmbiguousError
from tests.operations.making import deepalign, listing, metadata, network, pair, save

READ = "read from names and shapes"
LINE = "'fc1', 'fc2', 'fc3' are assumed to run once each and in this order"
SPEC = '[axes]\n"fc1.weight" = "k 12"\n"fc1.bias" = "k"\n"fc2.weight" = "20 k"\n'
FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(12, 16), nn.Linear(16, 20), nn.Linear(20, 5)

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))

def make():
    return Net(), (torch.randn(4, 12),)
"""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    return pair(tmp_path)


@pytest.mark.parametrize("command", ["align", "merge", "barrier", "verify", "inspect"])
def test_strict_refuses_an_assumption_and_writes_nothing(command: str, files: tuple[Path, Path]) -> None:
    inputs = files[:1] if command == "inspect" else files
    before = listing(files[0].parent)
    done = deepalign(command, *inputs, "--strict")

    assert (done.code, done.out) == (3, "")
    assert f"the spec rests on an assumption: {LINE}" in done.err
    assert "hint: give the network (--model) or a spec (--spec)" in done.err
    assert listing(files[0].parent) == before


def test_strict_is_content_with_a_spec_and_with_nothing_that_moves(files: tuple[Path, Path]) -> None:
    spec = Path("a.toml")
    spec.write_text(SPEC)
    assert deepalign("align", *files, "--strict", "--spec", spec, "-o", "c.safetensors").code == 0
    assert deepalign("merge", *files, "--strict", "-m", "none", "-o", "d.safetensors").code == 0


def test_strict_looks_into_a_saved_alignment(files: tuple[Path, Path]) -> None:
    assert (
        deepalign("align", *files, "-m", "weights", "-o", "c.safetensors", "--save-alignment", "ab").code == 0
    )
    done = deepalign("merge", *files, "--alignment", "ab", "--strict", "-o", "m.safetensors")
    assert done.code == 3
    assert LINE in done.err
    told = deepalign("merge", *files, "--alignment", "ab", "-o", "m.safetensors", "--json").json
    assert told["basis"] == READ
    assert told["assumptions"][0].startswith(LINE)


def test_strict_in_python() -> None:
    modules = network("named_mlp", 0), network("named_mlp", 1)
    a, b = (module.state_dict() for module in modules)
    with pytest.raises(AmbiguousError, match="rests on an assumption"):
        da.align(a, b, strict=True)
    alignment = da.align(*modules, strict=True)  # which are asked
    assert alignment.symmetry.spec.basis == "traced and checked"


def test_outputs_say_what_their_spec_rests_on(files: tuple[Path, Path]) -> None:
    told = deepalign("merge", *files, "-m", "weights", "-o", "out/", "--json").json
    made = metadata(Path("out/model.safetensors"))
    assert (told["basis"], made["deepalign.spec.basis"]) == (READ, READ)
    assert json.loads(made["deepalign.spec.assumptions"]) == told["assumptions"]
    assert told["assumptions"][0].startswith(LINE)
    card = Path("out/README.md").read_text()
    assert "What may move was read from names and shapes." in card
    assert "are assumed to run once each" in card
    assert "function as it was" not in card


def test_assumptions_travel_with_a_stored_spec(files: tuple[Path, Path]) -> None:
    stored = {"deepalign.spec": SPEC, "deepalign.spec.assumptions": json.dumps(["the moon is full"])}
    from safetensors.torch import load_file, save_file

    a = Path("stored.safetensors")
    save_file({k: v.clone() for k, v in torch.load(files[0]).items()}, a, {"format": "pt", **stored})
    assert deepalign("inspect", a).err == "assumption: the moon is full\n"
    assert deepalign("align", a, files[1], "-m", "weights", "-o", "c.safetensors").code == 0
    assert json.loads(metadata(Path("c.safetensors"))["deepalign.spec.assumptions"]) == ["the moon is full"]
    assert deepalign("verify", "c.safetensors", "c.safetensors", "--strict").code == 3
    save_file(load_file(a), "bad.safetensors", stored | {"deepalign.spec.assumptions": "{"})
    done = deepalign("inspect", "bad.safetensors")
    assert done.code == 3
    assert "the assumptions in the metadata of bad.safetensors are not a list of sentences" in done.err


def test_verify_says_what_it_knows(files: tuple[Path, Path]) -> None:
    a, _ = files
    done = deepalign("verify", a, a)
    assert done.out.startswith(f"the same up to the spec ({READ}, with 1 assumption): 0 units moved")
    assert "same function" not in done.out
    assert done.err.startswith(f"assumption: {LINE}")

    Path("net.py").write_text(FACTORY)
    run = deepalign("verify", a, a, "--model", "net.py:make")
    assert run.code == 0
    assert run.out.startswith("same function: run on ")
    assert run.err == ""


def test_scales_read_from_names_rest_on_norms_that_leave_no_tensors(files: tuple[Path, Path]) -> None:
    told = deepalign("inspect", files[0], "--activation", "relu", "--json").json
    assert "no norm without tensors (InstanceNorm" in told["assumptions"][-1]
    signed = deepalign("inspect", files[0], "--activation", "tanh", "--json").json
    assert not [line for line in signed["assumptions"] if "InstanceNorm" in line]


def test_constants_pass_through(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 3)
            self.log_std, self.temperature = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(()))
            self.register_buffer("steps", torch.tensor(7))

    a = save(Net(), tmp_path / "a.pt")
    tensors = deepalign("inspect", a, "--json").json["tensors"]
    assert {name: tensors[name]["axes"] for name in ("log_std", "temperature", "steps")} == {
        "log_std": None, "temperature": None, "steps": None,
    }  # fmt: skip
