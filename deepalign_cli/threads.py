"""Threads that share a list of small tasks, and one thread, the caller's, for large ones."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch

from deepalign_cli.progress import Progress

Task = Callable[[], int]  # does something, and returns how many bytes that made


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch computes in one thread meanwhile: many small operations are no faster in more.

    Where other work keeps the cores busy, they are many times slower: each waits for all threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def join(threads: Iterable[threading.Thread]) -> None:
    """Wait until threads have ended, also where an interrupt comes meanwhile, which is raised after that.

    What they write to would be closed else, and its number could be another file's soon.
    """
    interrupt: KeyboardInterrupt | None = None
    for thread in threads:
        while thread.is_alive():
            try:
                thread.join()
            except KeyboardInterrupt as another:
                interrupt = another
    if interrupt is not None:
        raise interrupt


def run_tasks(small: Iterator[Task], large: Iterator[Task], threads: int, progress: Progress) -> None:
    """Run the small tasks in so many threads, each begun in its turn, and the large ones here.

    PyTorch has no more threads for one of these meanwhile.

    Raises what a task raises, and no task is begun after that, or after an interrupt.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, threads))
    try:
        _run_tasks(small, large, threads, progress)
    finally:
        torch.set_num_threads(before)


def _run_tasks(small: Iterator[Task], large: Iterator[Task], threads: int, progress: Progress) -> None:
    if threads <= 1:
        for task in chain(small, large):
            progress(task())
        return
    crew = _Crew(small, threads)
    try:
        crew.start()
        for task in large:
            progress(task())
            crew.tell(progress, wait=False)
        crew.tell(progress, wait=True)
    finally:
        crew.stop()


class _Crew:
    """Threads that take tasks until there are none, one failed, or they are stopped."""

    def __init__(self, tasks: Iterator[Task], threads: int) -> None:
        self._tasks, self._lock, self._stopped = tasks, threading.Lock(), False
        self._done: queue.SimpleQueue[int | BaseException | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"piece-{i}") for i in range(threads)]
        self._at_work = threads

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End after the tasks that have begun."""
        self._stopped = True
        join(thread for thread in self._threads if thread.ident is not None)

    def tell(self, progress: Progress, *, wait: bool) -> None:
        """Tell what was done; with `wait` until all is. Raises what a task has raised."""
        while self._at_work and (wait or not self._done.empty()):
            done = self._done.get()
            if isinstance(done, BaseException):
                raise done
            if done is None:
                self._at_work -= 1
            else:
                progress(done)

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread: the pieces are small, and there are several
        try:
            while (task := self._next()) is not None:
                self._done.put(task())
        except BaseException as error:  # told by the caller's thread
            self._stopped = True
            self._done.put(error)
        self._done.put(None)

    def _next(self) -> Task | None:
        with self._lock:
            return None if self._stopped else next(self._tasks, None)
