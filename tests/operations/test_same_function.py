"""A spec that is wrong is refused before anything is concluded; without one the network is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from deepalign_cli.errors import DataError, SpecError
from deepalign_cli.operations.barrier import Question, barrier_files, check_same_function
from deepalign_cli.operations.landscape import landscape_files
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from tests.operations.making import deepalign

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
    def forward(self, x):
        h = self.fc1(x).relu()
        return self.fc3(h + self.fc2(h).relu())  # the skip connection that shapes do not show
make = Net
"""
RIGHT = (
    '[axes]\n"fc1.weight" = "r 6"\n"fc1.bias" = "r"\n"fc2.weight" = "r r"\n"fc2.bias" = "r"\n'
    '"fc3.weight" = "3 r"\n"fc3.bias" = "3"\n'
)
WRONG = (
    '[axes]\n"fc1.weight" = "p 6"\n"fc1.bias" = "p"\n"fc2.weight" = "q p"\n"fc2.bias" = "q"\n'
    '"fc3.weight" = "3 q"\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "right.toml").write_text(RIGHT)
    (tmp_path / "wrong.toml").write_text(WRONG)
    space: dict[str, object] = {}
    exec(NET, space)
    for name in "ab":
        torch.save(space["make"]().state_dict(), tmp_path / f"{name}.pt")  # type: ignore[operator]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    np.savez(tmp_path / "d.npz", inputs=x, labels=rng.integers(0, 3, 40))
    np.savez(tmp_path / "unlabelled.npz", inputs=x)
    return tmp_path


def running(folder: Path) -> RunSettings:
    return RunSettings(model=f"{folder / 'net.py'}:make", data=str(folder / "d.npz"))


def settings(folder: Path, spec: str | None) -> Settings:
    return Settings("weights", {"restarts": 1}, spec=folder / spec if spec else None)


@pytest.mark.slow
def test_a_wrong_spec_is_refused_and_a_right_one_is_not(folder: Path) -> None:
    inputs = folder / "a.pt", folder / "b.pt"

    def ask(spec: str | None) -> Question:
        return Question(inputs, ("weights",), settings(folder, spec), running(folder), points=3)

    with pytest.raises(SpecError, match=r"the spec is wrong.* 'p': suspect"):
        barrier_files(ask("wrong.toml"))
    for spec in ("right.toml", None):  # without one the network is asked
        assert len(barrier_files(ask(spec)).paths) == 2


@pytest.mark.slow
def test_so_it_is_on_a_plane(folder: Path) -> None:
    inputs = folder / "a.pt", folder / "b.pt"

    def ask(spec: str | None) -> Question:
        return Question(inputs, (), settings(folder, spec), running(folder), points=3)

    with pytest.raises(SpecError, match=r"the spec is wrong.* 'p': suspect"):
        landscape_files(ask("wrong.toml"))
    found = landscape_files(ask("right.toml"))
    _, aligned, plain = found.at.values()
    assert aligned == pytest.approx(plain, rel=1e-5)


def test_rounding_is_no_other_function() -> None:
    check_same_function("weights", 2.0001, 2.0)
    check_same_function("weights", float("nan"), 2.0)  # said elsewhere, as a loss that is not finite


@pytest.mark.slow
def test_a_network_that_is_random_is_not_taken_for_a_wrong_spec(folder: Path) -> None:
    code = folder / "always_random.py"
    code.write_text(NET.replace("self.fc2(h).relu())", "self.fc2(h).relu()) * torch.rand(())"))
    how = RunSettings(model=f"{code}:make", data=str(folder / "d.npz"))
    asked = Question((folder / "a.pt", folder / "b.pt"), ("weights",), settings(folder, None), how, points=3)

    for measured in (barrier_files, landscape_files):
        with pytest.raises(DataError, match="the network returns other outputs each time it is run"):
            measured(asked)


@pytest.mark.slow
def test_data_without_labels_will_do_where_nothing_is_measured(folder: Path) -> None:
    a, b, data = folder / "a.pt", folder / "b.pt", folder / "unlabelled.npz"
    how = ["--model", f"{folder / 'net.py'}:make", "--spec", folder / "right.toml"]

    for line in (
        ["align", a, b, "-o", folder / "1.safetensors", "--data", data],
        ["align", a, b, "-o", folder / "2.safetensors", "--data", data, "-m", "activations"],
        ["merge", a, b, "-o", folder / "3.safetensors", "--repair", data],
    ):
        done = deepalign(*line, *how)
        assert done.code == 0, done.err
    done = deepalign("barrier", a, b, "--data", data, *how)
    assert (done.code, done.out) == (3, "")
    assert "error: the data have no labels" in done.err


@pytest.mark.slow
def test_where_names_tell_nothing_the_network_does(folder: Path) -> None:
    for name in "ab":  # names and shapes that are no known family
        state = torch.load(folder / f"{name}.pt")
        torch.save({f"odd.{i}": w for i, w in enumerate(state.values())}, folder / f"{name}.odd.pt")
    a, b, data = folder / "a.odd.pt", folder / "b.odd.pt", folder / "d.npz"
    code = folder / "odd.py"
    code.write_text(
        "import torch\n"
        "class Odd(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        shapes = (8, 6), (8,), (8, 8), (8,), (3, 8), (3,)\n"
        "        self.odd = torch.nn.ParameterList([torch.zeros(s) for s in shapes])\n"
        "    def forward(self, x):\n"
        "        h = torch.relu(x @ self.odd[0].T + self.odd[1])\n"
        "        h = h + torch.relu(h @ self.odd[2].T + self.odd[3])\n"
        "        return h @ self.odd[4].T + self.odd[5]\n"
    )
    how = ["--model", f"{code}:Odd", "--data", data, "--points", 3, "--json"]

    naive = deepalign("barrier", a, b, *how, "-m", "none")
    assert naive.code == 0, naive.err
    assert [path["method"] for path in naive.json["paths"]] == ["none"]
    found = deepalign("barrier", a, b, *how, "-m", "weights")
    assert [path["method"] for path in found.json["paths"]] == ["none", "weights"]
    assert deepalign("align", a, b, "-o", folder / "o.safetensors").code == 3
    assert deepalign("merge", a, b, "-m", "none", "-o", folder / "m.safetensors").code == 0


@pytest.mark.slow
def test_a_spec_in_which_nothing_moves_serves_every_method(folder: Path) -> None:
    a, b = folder / "a.pt", folder / "b.pt"
    blank = folder / "blank.toml"
    blank.write_text(deepalign("inspect", a, "--spec", "--blank").out)
    how = ["--model", f"{folder / 'net.py'}:make", "--spec", blank, "--data", folder / "d.npz"]

    for method in ("deepalign", "weights", "activations", "dual"):
        done = deepalign("barrier", a, b, *how, "-m", method, "--points", 3, "--json")
        assert done.code == 0, done.err
        naive, other = done.json["paths"]
        assert other["loss"] == naive["loss"]
    done = deepalign("align", a, b, "--spec", blank, "-o", folder / "o.safetensors", "--json")
    assert done.code == 0
    assert done.json["distance_after"] == done.json["distance_before"]
