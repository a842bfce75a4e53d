"""Repair of what is to be written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.measure.paths import mix
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import merge_files
from deepalign_cli.operations.repairs import Repaired, repaired
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import Settings
from deepalign_cli.repair import reestimated
from tests.cli.subjects import data_set, factory
from tests.operations.making import pair, tensors

if TYPE_CHECKING:  # pytest would collect a class of this name
    from deepalign_cli.operations.testbed import Testbed

NONE = Settings("none")
WEIGHTS = Settings("weights", {"restarts": 1})


def running(folder: Path, kind: str) -> RunSettings:
    return RunSettings(factory(folder), {"kind": kind}, data=str(data_set(folder, kind)))


def mended(folder: Path, kind: str, settings: Settings, shares: Sequence[float]) -> tuple[Repaired, Testbed]:
    """The midpoint of two networks, repaired towards these shares of their statistics."""
    opened = [open_checkpoint(path) for path in pair(folder, kind)]
    session = Session(opened, settings, running(folder, kind))
    (alignment,), testbed = session.alignments(), session.testbed
    assert testbed is not None
    parents = [dict(opened[0]), dict(alignment.apply(opened[1]))]
    half = {n: WeightedMean((0.5, 0.5))(n, [w, parents[1][n]]) for n, w in parents[0].items()}
    return repaired(testbed, alignment.symmetry, parents, half, shares), testbed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp_batchnorm", "plain_cnn_bn"])
def test_statistics_are_those_that_are_reestimated(kind: str, tmp_path: Path) -> None:
    made, testbed = mended(tmp_path, kind, NONE, (0.5, 0.5))
    own, other = (open_checkpoint(tmp_path / f"{name}.pt") for name in "ab")
    merged = {**mix(dict(own), dict(other), 0.5), **made.tensors}
    expected = reestimated(testbed.run, merged, testbed.repaired_on)

    assert expected
    for name, w in expected.items():
        torch.testing.assert_close(made.tensors[name], w, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_what_was_done_is_said(tmp_path: Path) -> None:
    plain, _ = mended(tmp_path, "named_mlp", NONE, (0.5, 0.5))
    norms, _ = mended(tmp_path, "plain_cnn_bn", WEIGHTS, (0.5, 0.5))
    parent, _ = mended(tmp_path, "named_mlp", NONE, (1.0, 0.0))
    where = "repaired on data.npz, train, 24 examples: "

    assert plain.on == "data.npz, train, 24 examples"
    assert f"{where}3 layers were brought to their parents' statistics" in plain.notes
    assert any(note.startswith(f"{where}the statistics of 2 BatchNorm layers") for note in norms.notes)
    one, _ = mended(tmp_path, "mlp_batchnorm", NONE, (0.5, 0.5))
    assert any(note.endswith(" and 1 layer was brought to their parents' statistics") for note in one.notes)
    assert f"{where}there was nothing to do" in parent.notes
    assert parent.tensors == {}


@pytest.mark.slow
def test_what_is_written_is_what_was_repaired(tmp_path: Path) -> None:
    made, _ = mended(tmp_path, "plain_cnn_bn", WEIGHTS, (0.5, 0.5))
    job = Job(
        (tmp_path / "a.pt", tmp_path / "b.pt"), tmp_path / "o.safetensors", WEIGHTS,
        running=running(tmp_path, "plain_cnn_bn"), repair=str(tmp_path / "data.npz"),
    )  # fmt: skip
    merge_files(job)

    written = tensors(job.output)
    assert all(w.equal(written[name]) for name, w in made.tensors.items())
