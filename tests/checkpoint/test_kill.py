from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

kill = pytest.importorskip("benchmarks.kill", reason="the benchmarks are not in this copy")


def test_a_killed_write_leaves_all_or_nothing(tmp_path: Path) -> None:
    report = kill.kill_writes(tmp_path, times=5, megabytes=20, seed=0)
    assert report.half == 0
    assert report.absent + report.old + report.new == 5


def test_a_killed_merge_leaves_a_whole_folder_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kill, "TENSOR_MB", 1)
    report = kill.kill_merges(tmp_path, times=3, megabytes=8, seed=0)
    assert (report.half, report.wrong) == (0, 0)
    assert report.absent + report.old + report.new == 3
