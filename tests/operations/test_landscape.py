"""The plane through three networks, aligned on the fly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepalign_cli.errors import MismatchError, NonFiniteError
from deepalign_cli.operations.barrier import Question
from deepalign_cli.operations.landscape import SETTLED, landscape_files, save_view
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import Progress
from tests import nets
from tests.cli.subjects import data_set, factory
from tests.operations.making import network, pair, save

WEIGHTS = Settings("weights", {"restarts": 1})


def view(folder: Path, kind: str = "named_mlp") -> Question:
    running = RunSettings(model=factory(folder), arguments={"kind": kind}, data=str(data_set(folder, kind)))
    return Question(pair(folder, kind), (), WEIGHTS, running, points=3)


def test_progress_ends_at_one(tmp_path: Path) -> None:
    steps: list[float] = []
    report = landscape_files(view(tmp_path), Progress(lambda share, label: steps.append(share)))

    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(1)
    assert len(steps) > report.landscape.losses.numel()
    assert (report.method, report.loss) == ("weights", "cross-entropy")


@pytest.mark.slow
def test_what_is_settled_is_said(tmp_path: Path) -> None:
    assert SETTLED not in landscape_files(view(tmp_path)).notes
    assert SETTLED in landscape_files(view(tmp_path, "mlp_batchnorm")).notes


@pytest.mark.slow
def test_paths_are_drawn_from_a(tmp_path: Path) -> None:
    two = view(tmp_path)
    three = replace(two, inputs=(*two.inputs, save(network("named_mlp", 2), tmp_path / "c.pt")))
    for one in (two, three):
        found = landscape_files(one).landscape
        first, second, third = found.places
        assert found.paths == ((first, second), (first, third))
        assert found.places[first] == (0.0, 0.0)
        assert found.places[second][1] == 0.0


def test_three_networks_must_fit_and_be_finite(tmp_path: Path) -> None:
    made = view(tmp_path)
    other = save(nets.named_mlp((12, 18, 20, 5)), tmp_path / "c.pt")
    with pytest.raises(MismatchError, match=r"fc1\.weight"):
        landscape_files(replace(made, inputs=(*made.inputs, other)))
    state = {name: w.clone() for name, w in network("named_mlp", 2).state_dict().items()}
    state["fc2.weight"][0, 0] = torch.nan
    save(state, other)
    with pytest.raises(NonFiniteError, match=r"fc2\.weight"):
        landscape_files(replace(made, inputs=(*made.inputs, other)))


@pytest.mark.slow
def test_rows_without_accuracies(tmp_path: Path) -> None:
    made = view(tmp_path)
    save({"inputs": torch.randn(9, 12), "labels": torch.randn(9, 5)}, tmp_path / "v.safetensors")
    running = replace(made.running, data=str(tmp_path / "v.safetensors"))
    report = landscape_files(replace(made, running=running))
    save_view(report, tmp_path / "p.svg", tmp_path / "p.csv", force=False)

    assert report.landscape.accuracies is None
    _, *rows = (tmp_path / "p.csv").read_text().splitlines()
    assert len(rows) == report.landscape.losses.numel()
    assert all(row.endswith(",") for row in rows)
