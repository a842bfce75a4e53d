from __future__ import annotations

import doctest
import re

import pytest

from deepalign_cli import progress as module
from deepalign_cli.progress import SILENT, Progress

Told = list[tuple[float, str]]


def work() -> tuple[Progress, Told]:
    told: Told = []
    return Progress(lambda share, label: told.append((share, label)), "working"), told


def test_the_example_in_the_docstring_runs() -> None:
    results = doctest.testmod(module)
    assert (results.failed, results.attempted > 0) == (0, True)


def test_steps_are_counted_up_to_the_total() -> None:
    progress, told = work()
    stage = progress.part(0.5, "reading", total=4)
    stage(1), stage(3), stage(5)
    assert told == [(0.0, "reading"), (0.125, "reading"), (0.5, "reading"), (0.5, "reading")]


def test_stages_of_stages_say_the_label_above_where_they_have_none() -> None:
    progress, told = work()
    first = progress.part(0.5)
    inner = first.part(0.5, "", total=2), first.part(0.5, "second")
    inner[0](2), inner[1]()
    assert told == [(0.25, "second"), (0.25, "working"), (0.5, "second")]


def test_a_stage_that_ends_early_leaves_its_share_and_none_takes_more_than_is_left() -> None:
    progress, told = work()
    progress.part(0.9, "aligning")(0.1)
    rest = progress.part(1.0, "writing")
    rest()
    assert [share for share, _ in told] == pytest.approx([0, 0.09, 0.9, 1])
    progress.part(1.0, "no room")()
    assert told[-1] == (pytest.approx(1), "no room")


def test_nothing_to_do_is_done() -> None:
    progress, told = work()
    progress.part(1.0, "writing", total=0)(0)
    assert told[-1] == (1.0, "writing")


def test_silence() -> None:
    SILENT.part(0.5, "aligning")()
    SILENT()


def test_a_unit_gives_a_rate() -> None:
    progress, told = work()
    stage = progress.part(1.0, "writing", total=4e6, unit="B")
    stage(1e6), stage(3e6)
    assert told[0] == (0.0, "writing")
    assert all(re.fullmatch(r"writing, [\d.]+ [kMGT]?B/s", label) for _, label in told[1:])
