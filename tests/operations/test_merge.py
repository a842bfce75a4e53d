from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from deepalign_cli.aligners.alignment import distance
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import Merging, merge_files
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import Progress
from tests.operations.making import metadata, pair, save

NONE = Settings("none")


def test_progress_tells_of_aligning_and_writing_and_ends_at_one(tmp_path: Path) -> None:
    a, b = pair(tmp_path, "plain_cnn_bn")
    told: list[tuple[float, str]] = []
    report = merge_files(Job((a, b), tmp_path / "o", NONE), progress=Progress(lambda *one: told.append(one)))
    assert told[-1][1].endswith("B/s")  # a rate behind the label, from the first tensor on
    told = [(share, label.partition(",")[0]) for share, label in told]

    assert told == sorted(told, key=lambda one: one[0])
    assert list(dict.fromkeys(label for _, label in told)) == ["aligning", "writing o"]
    writing = [share for share, label in told if label == "writing o"]
    assert len(writing) == 1 + len(torch.load(a))
    assert (writing[0], writing[-1]) == pytest.approx((0, 1))
    assert report.bytes == sum(w.nbytes for w in torch.load(a).values())


def test_weights_must_fit_the_inputs(tmp_path: Path) -> None:
    job = Job(pair(tmp_path), tmp_path / "o", NONE)
    for weights in ((1.0,), (1.0, 1.0, 1.0), (0.0, 0.0), (-1.0, 2.0), (math.nan, 1.0)):
        with pytest.raises(UsageError):
            merge_files(job, Merging(weights))
    assert not (tmp_path / "o").exists()


def test_weights_are_normalised(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    merge_files(Job((a, b), tmp_path / "1", NONE), Merging((3.0, 1.0)))
    merge_files(Job((a, b), tmp_path / "2", NONE), Merging((0.75, 0.25)))

    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_the_output_says_which_combiner_made_it(tmp_path: Path) -> None:
    job = Job(pair(tmp_path), tmp_path / "o", NONE)
    merge_files(job, Merging((3, 1), "slerp"))
    told = metadata(tmp_path / "o")
    assert (told["deepalign.combine"], told["deepalign.weights"]) == ("slerp", "[0.75, 0.25]")
    with pytest.raises(UsageError, match="there is no combiner 'cubic'"):
        merge_files(job, Merging(combiner="cubic"))


def test_a_base_is_the_first_input_where_there_is_one(tmp_path: Path) -> None:
    ties, arc = Merging((1, 1), "ties", {"density": 0.5}), Merging((1, 1), "nuslerp")
    assert (ties.has_base, arc.has_base, Merging((1, 1), "nuslerp", base=True).has_base) == (
        True,
        False,
        True,
    )
    ties.check(3)
    arc.check(2)
    with pytest.raises(UsageError, match="2 weights are given for 1 inputs"):
        ties.check(2)
    assert ties.facts() == {
        "combine": "ties",
        "weights": [1, 1],
        "base": True,
        "density": 0.5,
        "lambda_": 1.0,
    }
    assert Merging((1, 1), "model_stock").facts() == {"combine": "model_stock", "base": True}
    assert (ties.notes(), len(Merging((1, 1), "ties").notes())) == ([], 1)


@pytest.mark.slow
def test_forced_onto_other_inputs_their_own_distance_is_reported(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    kept = tmp_path / "ab.alignment"
    merge_files(Job((a, b), tmp_path / "m.safetensors", save=kept))
    other = save({n: 2 * w for n, w in dict(open_checkpoint(b)).items()}, tmp_path / "c.pt")
    job = Job((a, other), tmp_path / "o.safetensors", alignments=(kept,))
    with pytest.raises(MismatchError, match="another moving input"):
        merge_files(job)
    assert not job.output.exists()

    report = merge_files(Job(job.inputs, job.output, Settings(force=True), job.alignments))

    own, moving = open_checkpoint(a), open_checkpoint(other)
    assert report.distances[0][0] == pytest.approx(distance(Settings().symmetry(own), own, moving))
