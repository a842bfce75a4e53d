from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
import torch

from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.threads import Task, one_thread, run_tasks


def counted(count: int, seen: list[str], name: str) -> Iterator[Task]:
    def task() -> int:
        seen.append(threading.current_thread().name)
        return 1

    return (task for _ in range(count))


@pytest.mark.parametrize("threads", [1, 4])
def test_all_tasks_are_run_and_told_and_large_ones_by_the_caller(threads: int) -> None:
    small: list[str] = []
    large: list[str] = []
    told: list[float] = []
    progress = Progress(lambda share, label: told.append(share), total=70)
    run_tasks(counted(50, small, "s"), counted(20, large, "l"), threads, progress)
    assert (len(small), len(large), len(told)) == (50, 20, 70)
    assert told[-1] == pytest.approx(1)
    assert set(large) == {threading.current_thread().name}
    assert threads == 1 or not set(small) & set(large)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_failure_is_raised_and_ends_the_work(threads: int) -> None:
    seen: list[int] = []

    def tasks() -> Iterator[Task]:
        for i in range(10_000):
            yield lambda i=i: seen.append(i) or (1 // (i != 5))

    with pytest.raises(ZeroDivisionError):
        run_tasks(tasks(), iter(()), threads, SILENT)
    assert len(seen) < 10_000
    assert threading.active_count() == len([t for t in threading.enumerate() if "piece" not in t.name])


def test_an_interrupt_of_the_caller_ends_the_work() -> None:
    seen: list[str] = []

    def interrupt(share: float, label: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(counted(10**6, seen, "s"), iter(()), 2, Progress(interrupt))
    assert len(seen) < 10**6


def test_one_thread_meanwhile_and_as_many_as_before_after_it() -> None:
    before = torch.get_num_threads()
    with suppress(KeyError), one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_a_second_interrupt_waits_for_tasks_that_have_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they write to is closed behind them."""
    begun, may_end, ended = threading.Event(), threading.Event(), list[str]()

    def task() -> int:
        begun.set()
        may_end.wait(20)
        ended.append("task")
        return 1

    def large() -> int:
        begun.wait(20)
        raise KeyboardInterrupt

    def press(thread: threading.Thread, timeout: float | None = None) -> None:
        if not may_end.is_set():
            may_end.set()
            raise KeyboardInterrupt
        join(thread, timeout)

    join = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", press)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(iter([task]), iter([large]), 2, SILENT)
    assert ended == ["task"]
    assert not [t for t in threading.enumerate() if "piece" in t.name]
