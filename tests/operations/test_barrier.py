"""The report that a barrier is judged by."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepalign_cli.aligners.artifact import load_alignment
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import LossError, MismatchError, UsageError
from deepalign_cli.measure.curve import Curve
from deepalign_cli.operations import barrier
from deepalign_cli.operations.barrier import (
    ENDS,
    REPAIRED,
    SAVED,
    STATISTICS_HINT,
    BarrierReport,
    PathReport,
    Question,
    barrier_files,
)
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import Progress
from deepalign_cli.repair import Correction
from deepalign_cli.symmetry.resolve import shapes_of
from tests.cli.subjects import ALPHAS, data_set, factory
from tests.operations.making import align_files, network, pair, save

WEIGHTS = Settings("weights", {"restarts": 1})


def path(name: str, *losses: float, moving: str = "b.pt", data: str = "d") -> PathReport:
    alphas = tuple(i / (len(losses) - 1) for i in range(len(losses)))
    return PathReport(moving, name, (Curve(name, alphas, losses, data=data),), (1.0, 1.0))


def report(*paths: PathReport, asked: tuple[str, ...] = ("weights",)) -> BarrierReport:
    return BarrierReport(paths, (0.0, 0.5, 1.0), "mse", ("d",), 0.0, (), asked, ("a", "b"), (1,))


def running(folder: Path, kind: str = "named_mlp", **more: object) -> RunSettings:
    made = RunSettings(model=factory(folder), arguments={"kind": kind}, data=str(data_set(folder, kind)))
    return replace(made, **more)  # type: ignore[arg-type]


def told() -> tuple[list[float], Progress]:
    """The shares of the work that are told, and what tells them."""
    shares: list[float] = []
    return shares, Progress(lambda share, label: shares.append(share))


# --- the report -----------------------------------------------------------------------------------


def test_the_worst_is_the_greatest_mean_of_what_was_asked_for() -> None:
    pairs = [
        path("none", 0, 9, 0), path("weights", 0, 3, 0), path("none", 0, 9, 0, moving="c.pt"),
        path("weights", 0, 1, 0, moving="c.pt"),
    ]  # fmt: skip
    found = report(*pairs)
    assert found.worst == 2
    assert replace(found, asked=("none",)).worst == 9
    assert replace(found, asked=("weights", "none")).worst == 9
    assert found.methods == ["none", "weights"]
    assert [one.moving for one in found.of("weights")] == ["b.pt", "c.pt"]
    assert len(found.curves) == 4


def test_the_worst_is_over_all_data() -> None:
    curves = tuple(Curve("weights", (0.0, 0.5, 1.0), (0.0, top, 0.0), data=str(top)) for top in (1.0, 4.0))
    found = replace(report(PathReport("b", "weights", curves, (1.0, 1.0))), data=("1.0", "4.0"))
    assert found.worst == 4


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_what_is_no_number_is_told(loss: float) -> None:
    found = report(path("none", 0, 1, 0), path("weights", 0, loss, 0))
    assert math.isnan(found.worst)
    with pytest.raises(LossError, match=r"the loss of 'weights' is not finite at alpha 0\.5 on d"):
        found.check_finite()
    report(path("none", 0, 1, 0)).check_finite()


# --- what is measured -----------------------------------------------------------------------------


@pytest.mark.slow
def test_every_method_once_and_the_naive_one_first(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    methods = ("weights", "none", "weights")
    steps, progress = told()
    found = barrier_files(Question((a, b), methods, WEIGHTS, running(tmp_path), points=5), progress)

    assert found.methods == ["none", "weights"]
    assert found.alphas == tuple(ALPHAS)
    assert found.examples == (24,)
    assert found.ends == ("a.pt", "b.pt")
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(1)
    naive, weights = found.paths
    assert (naive.curves[0].losses[0], naive.curves[0].data) == (
        weights.curves[0].losses[0], "data.npz, test, 24 examples"
    )  # fmt: skip


def test_progress_ends_at_one_however_much_is_measured(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    c = save(network("named_mlp", 2), tmp_path / "c.pt")
    what, (steps, progress) = running(tmp_path, splits=("test", "train"), batch_size=7), told()
    found = barrier_files(Question((a, b, c), ("none",), WEIGHTS, what, points=3), progress)

    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx(1)
    assert (len(found.paths), found.ends, found.examples) == (2, ("a.pt", "2 networks"), (24, 24))


@pytest.mark.slow
def test_repair_is_asked_for_by_its_name(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    question = Question((a, b), ("none",), WEIGHTS, running(tmp_path, "plain_cnn_bn"), points=3)
    plain, mended = barrier_files(question), barrier_files(replace(question, repair=True))

    assert (plain.asked, mended.asked) == (("none",), (f"none{REPAIRED}",))
    assert mended.worst == mended.of(f"none{REPAIRED}")[0].curves[0].barrier
    assert STATISTICS_HINT in plain.notes
    assert STATISTICS_HINT not in mended.notes


@pytest.mark.slow
def test_with_batchnorm_a_network_has_no_barrier_to_itself_however_its_statistics_were_stored(
    tmp_path: Path,
) -> None:
    a, _ = pair(tmp_path, "plain_cnn_bn")
    what = running(tmp_path, "plain_cnn_bn")
    found = barrier_files(Question((a, a), ("none",), WEIGHTS, what, points=3, repair=True))
    plain, mended = (found.of(name)[0].curves[0] for name in ("none", f"none{REPAIRED}"))

    assert mended.losses == pytest.approx([mended.losses[0]] * 3)
    assert mended.losses[0] != pytest.approx(plain.losses[0], rel=1e-3)
    assert ENDS in found.notes


def test_without_batchnorm_the_ends_of_repaired_paths_are_the_parents(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    found = barrier_files(Question((a, b), ("none",), WEIGHTS, running(tmp_path), points=3, repair=True))
    plain, mended = (found.of(name)[0].curves[0].losses for name in ("none", f"none{REPAIRED}"))

    assert (plain[0], plain[-1]) == (mended[0], mended[-1])
    assert plain[1] != mended[1]
    assert ENDS not in found.notes


def test_a_network_is_repaired_once_for_all_data_and_not_copied_where_nothing_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(tmp_path)
    shares, paths = [], []

    def repair(*args: Any, **more: Any) -> Correction:
        shares.append(args[2])
        return barrier_repair(*args, **more)

    def measure(run: Any, reference: Any, own: Any, *args: Any) -> list[Curve]:
        paths.append(own)
        return barrier_measure(run, reference, own, *args)

    barrier_repair, barrier_measure = barrier.repair, barrier.measure
    monkeypatch.setattr(barrier, "repair", repair)
    monkeypatch.setattr(barrier, "measure", measure)
    what = running(tmp_path, splits=("test", "train"))
    found = barrier_files(Question((a, b), ("none",), WEIGHTS, what, points=3, repair=True))

    assert shares == [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]
    assert len(paths) == 2
    assert len({id(path.moved) for own in paths for path in own}) == 1
    assert found.of(f"none{REPAIRED}")[0].curves[0].losses != found.of("none")[0].curves[0].losses


@pytest.mark.slow
def test_saved_alignments_are_called_by_their_method(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    c = save(network("named_mlp", 2), tmp_path / "c.pt")
    kept = [tmp_path / "b.kept", tmp_path / "c.kept"]
    for other, method, place in zip((b, c), ("weights", "deepalign"), kept, strict=True):
        out = tmp_path / f"{other.stem}.safetensors"
        align_files(Job((a, other), out, Settings(method, {"sketches": 1}), save=place))
    what = running(tmp_path)
    one = barrier_files(Question((a, b), settings=WEIGHTS, running=what, alignments=(kept[0],), points=3))
    two = barrier_files(Question((a, b, c), settings=WEIGHTS, running=what, alignments=tuple(kept), points=3))

    assert (one.methods, one.asked) == (["none", "weights"], ("weights",))
    assert (two.methods, two.asked) == (["none", SAVED], (SAVED,))
    saved = load_alignment(kept[0], shapes_of(open_checkpoint(a)))
    assert one.of("weights")[0].distances == pytest.approx(saved.distances)
    assert one.of("none")[0].distances == pytest.approx((saved.distances[0],) * 2)
    with pytest.raises(UsageError, match="1 alignments are given for 2 moving inputs"):
        barrier_files(Question((a, b, c), settings=WEIGHTS, running=what, alignments=(kept[0],)))
    with pytest.raises(MismatchError, match="another moving input"):
        barrier_files(Question((a, c), settings=WEIGHTS, running=what, alignments=(kept[0],)))
    forced = Question((a, c), settings=Settings(force=True), running=what, alignments=(kept[0],), points=3)
    assert barrier_files(forced).of("weights")[0].distances != pytest.approx(saved.distances)


def test_without_data_layers_are_compared(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    found = barrier_files(Question((a, b), ("weights",), WEIGHTS))

    assert (found.loss, found.data, found.alphas, found.curves) == (None, (), (), [])
    naive, weights = found.paths
    own, other = torch.load(a), torch.load(b)
    for layer in naive.layers:
        w, v = own[layer.name], other[layer.name]
        assert layer.distance == pytest.approx(float((w - v).norm() / (w.norm() * v.norm()).sqrt()), rel=1e-5)
    assert weights.distances[1] < naive.distances[1]
