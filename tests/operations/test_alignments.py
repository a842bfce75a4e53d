"""What a saved alignment is good for, and what is no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepalign_cli.aligners.alignment import distance
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import CheckpointError, MismatchError
from deepalign_cli.operations.alignments import Found
from deepalign_cli.operations.combine import Job, merge_files
from deepalign_cli.operations.settings import Settings, open_network
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.operations.making import aligner, network, pair, save


def saved(tmp_path: Path) -> tuple[Path, Path, Path]:
    a, b = pair(tmp_path)
    merge_files(Job((a, b), tmp_path / "m.safetensors", save=tmp_path / "ab.alignment"))
    return a, b, tmp_path / "ab.alignment"


def test_forced_onto_other_inputs_their_own_distance_is_reported(tmp_path: Path) -> None:
    a, b, alignment = saved(tmp_path)
    other = save({n: 2 * w for n, w in dict(open_checkpoint(b)).items()}, tmp_path / "c.pt")
    job = Job((a, other), tmp_path / "o.safetensors", alignments=(alignment,))
    with pytest.raises(MismatchError, match="another moving input"):
        merge_files(job)
    assert not job.output.exists()

    report = merge_files(Job(job.inputs, job.output, Settings(force=True), job.alignments))

    assert report.distances[0][0] == pytest.approx(apart(a, other))


def apart(first: Path, second: Path) -> float:
    from deepalign_cli.operations.settings import bind

    a, b = open_checkpoint(first), open_checkpoint(second)
    return distance(bind(a, Settings()), a, b)


def test_an_alignment_is_no_network(tmp_path: Path) -> None:
    _, _, alignment = saved(tmp_path)
    with pytest.raises(CheckpointError, match="is a saved alignment"):
        open_network(alignment)
    with pytest.raises(CheckpointError, match="is an aligner network"):
        open_network(aligner(tmp_path / "aligner.safetensors"))
    assert open_network(save(network("named_mlp", 0), tmp_path / "n.pt"))


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"restarts": 10}, []),
        (
            {"network": "n-v1", "sketches": 1, "kept": "none", "why": "as asked for", "notes": []},
            ["n-v1, 1 sketch; kept the prediction: as asked for"],
        ),
        (
            {"network": "n-v1", "sketches": 8, "kept": "weights", "why": "it is unsure", "notes": ["a", "b"]},
            ["n-v1, 8 sketches; kept weight matching from the prediction: it is unsure", "a", "b"],
        ),
    ],
)
def test_notes_tell_of_predictions(details: dict[str, object], expected: list[str]) -> None:
    found = Found(Symmetry(Spec({}), {}), Element({}), "any", (1.0, 0.5), details=details)
    assert found.notes() == expected
