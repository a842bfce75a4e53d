from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deepalign_cli.errors import MismatchError, OutputError, UsageError
from deepalign_cli.operations.job import Job, check_outputs
from deepalign_cli.operations.settings import Settings
from tests.operations.making import network, pair, save

NONE = Settings("none")


def test_inputs_are_opened_together(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    job, session = Job((a, b), tmp_path / "o", NONE).open()
    assert job.inputs == (a, b)
    assert [one.path for one in session.inputs] == [a, b]
    assert session.testbed is None
    other = save(network("plain_cnn", 0), tmp_path / "c.pt")
    with pytest.raises(MismatchError):
        Job((a, other), tmp_path / "o", NONE).open()


def test_what_is_read_is_not_to_be_touched(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "kept", "data", "spec")]
    job = Job(
        tuple(paths[:2]), tmp_path / "o", replace(NONE, spec=paths[4], force=True),
        alignments=(paths[2],), reads=(paths[3],),
    )  # fmt: skip
    assert set(job.untouchable) == set(paths)
    for path in paths:
        path.touch()
        with pytest.raises(UsageError, match="is one of the inputs"):
            check_outputs(job, [path])
        with pytest.raises(UsageError, match="is one of the inputs"):
            check_outputs(replace(job, save=path), [job.output])


def test_outputs_that_could_not_be_written_are_refused_before_any_work(tmp_path: Path) -> None:
    job = Job((tmp_path / "a", tmp_path / "b", tmp_path / "c"), tmp_path / "new", NONE)
    there = tmp_path / "there"
    there.touch()
    with pytest.raises(UsageError, match="exists"):
        check_outputs(job, [there])
    check_outputs(replace(job, settings=replace(NONE, force=True)), [there])
    with pytest.raises(OutputError, match="no folder"):
        check_outputs(job, [tmp_path / "gone" / "o"])
    with pytest.raises(UsageError, match=r"'.*there' is not a folder"):
        check_outputs(job, [there / "b", there / "c"])
    with pytest.raises(UsageError, match=r"'.*b' and '.*c' would both be written to"):
        check_outputs(job, [tmp_path / "new" / "o", tmp_path / "new" / "o"])
    check_outputs(job, [tmp_path / "new" / "b", tmp_path / "new" / "c"])
    with pytest.raises(UsageError, match="holds one pair"):
        check_outputs(replace(job, save=tmp_path / "kept"), [tmp_path / "new" / "b", tmp_path / "new" / "c"])
    with pytest.raises(UsageError, match="both the output and the alignment"):
        check_outputs(replace(job, inputs=job.inputs[:2], save=job.output), [job.output])
