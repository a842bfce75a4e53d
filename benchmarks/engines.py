"""What Dask and Ray cost on one machine with two workers: to start, to hold, to use, and to lose a worker.

    python benchmarks/engines.py dask
    RAY_worker_niceness=0 RAY_AUTH_MODE=disabled python benchmarks/engines.py ray     # pip install ray

Ray's workers are nice by default; with that they starve where others are at work. Memory is what processes
have for themselves, with nothing to do. One of six tasks of a second is at work when its worker is killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

WORKERS, TINY, LONG = 2, 200, 6


def nothing(item: int) -> int:
    """A task that takes no time."""
    return item


def second(item: str) -> str:
    """A task of a second, which leaves a file that says who is at it."""
    Path(f"{item}-{os.getpid()}").touch()
    time.sleep(1)
    return item


class Dask:
    """A local cluster of Dask."""

    def __init__(self) -> None:
        from distributed import Client, LocalCluster

        how = {"threads_per_worker": 1, "memory_limit": None, "dashboard_address": None}
        self._cluster = LocalCluster(n_workers=WORKERS, silence_logs=50, **how)
        self._client = Client(self._cluster)

    def begin(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[], list[Any]]:
        futures = self._client.map(task, items, pure=False)
        return lambda: self._client.gather(futures)

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


class Ray:
    """A local cluster of Ray."""

    def __init__(self) -> None:
        import ray

        self._ray = ray
        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)

    def begin(self, task: Callable[[Any], Any], items: Sequence[Any]) -> Callable[[], list[Any]]:
        remote = self._ray.remote(num_cpus=1, max_retries=3)(task)
        futures = [remote.remote(item) for item in items]
        return lambda: self._ray.get(futures)

    def close(self) -> None:
        self._ray.shutdown()


def own_memory() -> tuple[int, int]:
    """This process and those below it: how many, and the bytes that they have for themselves."""
    this = psutil.Process()
    sizes = [process.memory_full_info().uss for process in (this, *this.children(recursive=True))]
    return len(sizes), sum(sizes)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def lose_one(engine: Dask | Ray) -> float:
    """Seconds that six tasks of a second take where one of two workers is killed at its first."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = engine.begin(second, [f"{folder}/{number}" for number in range(LONG)])
        while len(list(Path(folder).iterdir())) < WORKERS:
            time.sleep(0.01)
        os.kill(int(next(Path(folder).iterdir()).name.rpartition("-")[2]), signal.SIGKILL)
        assert len(result()) == LONG
        return time.perf_counter() - started


def main() -> None:
    """Measure one engine, once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", choices=("dask", "ray"))
    name = parser.parse_args().engine
    started = time.perf_counter()
    engine = Dask() if name == "dask" else Ray()
    engine.begin(nothing, range(WORKERS))()
    first = time.perf_counter() - started
    many = timed(engine.begin(nothing, range(TINY)))
    count, size = own_memory()
    lost, closed = lose_one(engine), timed(engine.close)
    print(f"{name}: first result {first:.1f} s, {TINY} tasks {many:.1f} s, {count} processes of "
          f"{size / 1e6:.0f} MB, {LONG} s of tasks with a loss {lost:.1f} s, end {closed:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
