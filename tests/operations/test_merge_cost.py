from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepalign_cli.errors import LossError
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import Merge, Merging, merge_files
from deepalign_cli.operations.merge_cost import MERGED, Cost, cost_of
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from tests import nets
from tests.cli.subjects import data_set, examples, factory, measured, overflowing
from tests.operations.making import network, pair, save, tensors

WEIGHTS = Settings("weights", {"restarts": 1})


def job_of(folder: Path, *inputs: Path, kind: str = "named_mlp", repair: bool = False) -> Job:
    running = RunSettings(factory(folder), {"kind": kind}, data=str(data_set(folder, kind)))
    return Job(inputs, folder / "o", WEIGHTS, running=running, repair=running.data if repair else None)


def cost(job: Job, merging: Merging) -> Cost:
    _, session = job.open(measured=True)
    assert session.testbed is not None
    return cost_of(Merge(session, merging, job.repair), session.testbed)


def by_torch(kind: str, path: Path, data: Path) -> tuple[float, float]:
    """Loss and accuracy of a file's network on the test examples, by nothing but PyTorch."""
    state = torch.load(path) if path.suffix == ".pt" else tensors(path)
    return measured(
        nets.ALL[kind]()[0].double(),
        state,
        *(x.double() if x.is_floating_point() else x for x in examples(data)),
    )


@pytest.mark.parametrize(
    ("kind", "merging", "repair"),
    [
        ("named_mlp", Merging((0.8, 0.2), "slerp"), False),
        ("named_mlp", Merging((0.5, 0.5)), False),
        ("mlp_batchnorm", Merging((0.7, 0.3)), True),
    ],
)
def test_what_is_measured_is_the_very_network_that_is_written(
    kind: str, merging: Merging, repair: bool, tmp_path: Path
) -> None:
    a, b = pair(tmp_path, kind)
    job = job_of(tmp_path, a, b, kind=kind, repair=repair)
    found = cost(job, merging)
    merge_files(job, merging)

    assert [one.name for one in found.networks] == ["a.pt", "b.pt", MERGED]
    assert {one.data for one in found.networks} == {"data.npz, test, 24 examples"}
    for one, path in zip(found.networks, (a, b, job.output), strict=True):
        loss, accuracy = by_torch(kind, path, tmp_path / "data.npz")
        assert (one.loss, one.accuracy) == pytest.approx((loss, accuracy), rel=1e-5)


@pytest.mark.slow
def test_the_path_of_two_is_that_of_the_combiner(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    job = job_of(tmp_path, a, b)
    line, arc = (cost(job, Merging((0.5, 0.5), combiner)) for combiner in ("linear", "slerp"))
    assert [curve.method for curve in arc.curves] == ["none", "weights"]
    assert arc.ends == ("a.pt", "b.pt")
    for found in (line, arc):
        assert found.curves[1].midpoint_loss == pytest.approx(found.networks[-1].loss, rel=1e-5)
    assert line.curves[1].midpoint_loss != pytest.approx(arc.curves[1].midpoint_loss, rel=1e-3)
    assert any(note.startswith("run as ") for note in arc.notes)


@pytest.mark.slow
def test_of_three_networks_there_is_no_path(tmp_path: Path) -> None:
    paths = [*pair(tmp_path), save(network("named_mlp", 2), tmp_path / "c.pt")]
    found = cost(job_of(tmp_path, *paths), Merging((1, 1, 1)))
    assert len(found.networks) == 4
    assert not found.curves
    assert any(note.startswith("loss: ") for note in found.notes)


@pytest.mark.slow
def test_half_precision_is_measured_in_float32(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "named_mlp", torch.bfloat16)
    job = job_of(tmp_path, a, b)
    found = cost(job, Merging())
    merge_files(job)
    assert found.networks[-1].loss == pytest.approx(
        by_torch("named_mlp", job.output, tmp_path / "data.npz")[0], rel=1e-4
    )


def test_a_loss_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LossError, match="is not finite"):
        cost(job_of(tmp_path, *overflowing(tmp_path)), Merging())
