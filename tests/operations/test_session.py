from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.artifact import check_hashes, measured_for
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.checkpoint import Checkpoint, open_checkpoint
from deepalign_cli.errors import MismatchError, NonFiniteError, SpecError, UsageError
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.testbed import open_testbed
from deepalign_cli.progress import Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.cli.subjects import data_set, factory
from tests.operations.making import align_files, network, save

WEIGHTS = Settings("weights", {"restarts": 1})
NOTHING = Alignment(Symmetry(Spec({}), {}), Element({}), "any", 0.0, 1.0, 0.5, hashes=("1", "2"))


def opened(folder: Path, count: int = 2) -> list[Checkpoint]:
    return [open_checkpoint(save(network("named_mlp", i), folder / f"{i}.pt")) for i in range(count)]


# --- alignments -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_alignment_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = WeightMatching.__call__

    def counted(self: WeightMatching, *args: Any, **more: Any) -> Alignment:
        calls.append(1)
        return plain(self, *args, **more)

    monkeypatch.setattr(WeightMatching, "__call__", counted)
    session = Session(opened(tmp_path, 3), WEIGHTS)
    first = session.alignments()
    assert session.alignments("weights") is first
    assert len(calls) == len(first) == 2
    assert [one.method for one in session.alignments("none")] == ["none", "none"]
    assert len(calls) == 2


@pytest.mark.slow
def test_an_alignment_carries_the_moving_input_and_says_how_it_was_made(tmp_path: Path) -> None:
    inputs, told = opened(tmp_path, 3), list[tuple[float, str]]()
    session = Session(inputs, WEIGHTS)
    found = session.alignments(progress=Progress(lambda *one: told.append(one)))
    for one, moving in zip(found, inputs[1:], strict=True):
        moved = one.apply(moving)
        assert distance(one.symmetry, inputs[0], moved) == pytest.approx(one.distance_after)
        assert one.distance_after < one.distance_before
        assert one.making == {"restarts": 1}
    stages = list(dict.fromkeys(label for _, label in told if label != "weight matching"))
    assert stages == ["aligning 1.pt by weights", "aligning 2.pt by weights"]
    alone = Session(inputs[::2], WEIGHTS).alignments()[0]  # from the same seed each
    assert alone.distance_after == found[1].distance_after


def test_saved_alignments_take_the_place_of_a_method(tmp_path: Path) -> None:
    inputs, kept = opened(tmp_path), tmp_path / "kept"
    job = Job((tmp_path / "0.pt", tmp_path / "1.pt"), tmp_path / "o", WEIGHTS, save=kept)
    report = align_files(job)
    (loaded,) = Session(inputs, Settings("none"), saved=(kept,)).alignments()
    assert (loaded.method, loaded.distances, loaded.groups) == ("weights", report.distances[0], report.groups)
    with pytest.raises(UsageError, match="2 alignments are given for 1 moving inputs"):
        Session(inputs, WEIGHTS, saved=(kept, kept))


def test_inputs_must_fit_and_be_finite(tmp_path: Path) -> None:
    a, _ = opened(tmp_path)
    other = open_checkpoint(save(network("plain_cnn", 0), tmp_path / "c.pt"))
    with pytest.raises(MismatchError):
        Session([a, other], WEIGHTS)
    state = {name: w.clone() for name, w in dict(a).items()}
    state["fc2.weight"][0, 0] = torch.nan
    bad = open_checkpoint(save(state, tmp_path / "nan.pt"))
    for method in ("none", "weights"):
        with pytest.raises(NonFiniteError, match=r"fc2\.weight.*nan\.pt"):
            Session([a, bad], Settings(method)).alignments()


def test_only_the_naive_method_does_without_a_known_family(tmp_path: Path) -> None:
    inputs = [
        open_checkpoint(save({"x": torch.randn(4, 3), "y": torch.randn(5, 7)}, tmp_path / f"{i}.pt"))
        for i in "ab"
    ]
    session = Session(inputs, WEIGHTS)
    assert session.alignments("none")[0].moved == 0
    for settings in (WEIGHTS, Settings("none")):
        with pytest.raises(SpecError):
            Session(inputs, settings).alignments("weights")


# --- what networks are run on ---------------------------------------------------------------------


def running(folder: Path) -> RunSettings:
    return RunSettings(factory(folder), {"kind": "named_mlp"}, data=str(data_set(folder)))


@pytest.mark.slow
def test_the_model_and_the_data_are_opened_once_and_only_where_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    openings: list[str | None] = []

    def counted(reference: Checkpoint, running: RunSettings, *args: Any, **more: Any) -> Any:
        openings.append(running.data)
        return open_testbed(reference, running, *args, **more)

    monkeypatch.setattr("deepalign_cli.operations.testbed.open_testbed", counted)
    what = running(tmp_path)
    session = Session(opened(tmp_path), WEIGHTS, what)
    session.alignments("none")
    assert not openings
    session.alignments("activations")
    session.alignments("dual")
    assert what.data is not None
    assert session.repairing(what.data) is session.testbed
    assert openings == [what.data]

    other = str(data_set(tmp_path, count=12))
    assert Session(opened(tmp_path), WEIGHTS).testbed is None
    assert Session(opened(tmp_path), WEIGHTS, replace(what, data=None)).repairing(other).sets[0].name


# --- a single alignment ---------------------------------------------------------------------------


def test_an_alignment_knows_whose_it_is() -> None:
    check_hashes(NOTHING, "1", "2")
    with pytest.raises(MismatchError, match="another reference"):
        check_hashes(NOTHING, "3", "2")
    with pytest.raises(MismatchError, match="another moving input"):
        check_hashes(NOTHING, "1", "3")
    check_hashes(replace(NOTHING, hashes=None), "3", "4")


def test_distances_are_those_of_the_inputs_at_hand(tmp_path: Path) -> None:
    inputs = opened(tmp_path, 3)
    found = Session(inputs[:2], WEIGHTS).alignments()[0]
    own = replace(found, hashes=(inputs[0].sha256(), inputs[1].sha256()))
    assert measured_for(found, inputs[0], inputs[2]) is found
    assert measured_for(own, inputs[0], inputs[1]) is own
    other = measured_for(own, inputs[0], inputs[2])
    assert other.distance_before == pytest.approx(distance(own.symmetry, inputs[0], inputs[2]))
    assert other.distance_after == pytest.approx(distance(own.symmetry, inputs[0], own.apply(inputs[2])))
