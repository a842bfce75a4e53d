from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

kill = pytest.importorskip("benchmarks.kill", reason="the benchmarks are not in this copy")


def test_a_killed_write_leaves_all_or_nothing(tmp_path: Path) -> None:
    report = kill.kill_writes(tmp_path, times=5, megabytes=20, seed=0)
    assert report.half == 0
    assert report.absent + report.old + report.new == 5
