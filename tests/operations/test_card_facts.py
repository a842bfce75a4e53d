from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.card import Facts
from deepalign_cli.operations.card_facts import facts_for
from deepalign_cli.operations.job import Job, Report
from deepalign_cli.operations.merge import Merging, merge_files
from deepalign_cli.operations.merge_cost import Cost, Measured
from deepalign_cli.operations.settings import Settings
from tests.operations.making import pair, sha256

WEIGHTS = Settings("weights", {"restarts": 2})


def merged(folder: Path) -> tuple[Job, Report]:
    job = Job(pair(folder), folder / "o", WEIGHTS)
    return job, merge_files(job, Merging((3, 1), "slerp"))


def facts(job: Job, report: Report, cost: Cost | None = None) -> Facts:
    return facts_for("t", ["-o", "t/"], report, cost, open_checkpoint(job.inputs[0]), job.inputs, [])


def test_facts_are_what_the_metadata_say(tmp_path: Path) -> None:
    job, report = merged(tmp_path)
    told = facts(job, report)

    assert [(one.name, one.share, one.distances) for one in told.inputs] == [
        ("a.pt", 0.75, None), ("b.pt", 0.25, report.distances[0]),
    ]  # fmt: skip
    assert [one.sha256 for one in told.inputs] == [sha256(path) for path in job.inputs]
    assert (told.method, told.combiner, told.library, told.picture) == ("weights", "slerp", "pytorch", None)
    assert {key: told.making[key] for key in ("seed", "restarts", "combine")} == {
        "seed": "0", "restarts": "2", "combine": "slerp",
    }  # fmt: skip
    assert not {"method", "command", "weights"} & set(told.making)
    assert told.command == ["deepalign", "merge", "a.pt", "b.pt", "-o", "t/"]
    assert told.moved == tuple(sum(g[key] for g in report.groups.values()) for key in ("moved", "size"))
    assert not told.networks


def test_the_cost_is_handed_on(tmp_path: Path) -> None:
    networks = (Measured("a.pt", "d", 1.0, 0.5),)
    assert facts(*merged(tmp_path), Cost(networks)).networks == networks


@pytest.mark.slow
def test_notes_do_not_say_where_files_lie(tmp_path: Path) -> None:
    job, report = merged(tmp_path)
    notes = (f"'{tmp_path}/a.pt' is odd", "see /home/me/secret/x.txt", "https://example.org/a/b stays")
    assert facts(job, replace(report, notes=notes)).notes == (
        "'a.pt' is odd", "see x.txt", "https://example.org/a/b stays",
    )  # fmt: skip
