"""Kill a process at random moments while it writes a checkpoint, and look at what is there afterwards.

    python benchmarks/kill.py --size-gb 1 --times 50
    python benchmarks/kill.py --size-gb 0.2 --times 50 --sharded

The target must be absent, the old file, or the new one; never half of one. With --sharded it is a folder of
eight shards or more that a merge replaces, and the same merge must go on where the killed one ended.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepalign_cli.checkpoint import Entry, open_checkpoint, write_safetensors
from deepalign_cli.errors import DeepalignError
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.job import Report as JobReport
from deepalign_cli.operations.merge import Merging
from deepalign_cli.operations.merged_folder import merge_folder
from deepalign_cli.operations.settings import Settings

TENSOR_MB = 10
FORK = multiprocessing.get_context("fork")  # which need not import torch again


@dataclass
class Report:
    """What was found after the kills."""

    absent: int = 0
    old: int = 0
    new: int = 0
    half: int = 0
    leftovers: int = 0
    seconds: float = 0.0  # that one whole write took

    def __str__(self) -> str:
        found = f"absent {self.absent}, old {self.old}, new {self.new}, half {self.half}"
        return f"{found}, other files left {self.leftovers} (one write: {self.seconds:.2f} s)"


def kill_writes(folder: Path, *, times: int, megabytes: int, seed: int) -> Report:
    """Kill `times` writers, each at a random moment of its first or second write."""
    rng = random.Random(seed)
    count = max(megabytes // TENSOR_MB, 1)
    report = Report(seconds=_one_write(folder, count))
    for _ in range(times):
        target = folder / "target.safetensors"
        finished = _kill_one(target, count, rng.uniform(0, 2 * report.seconds))
        _judge(target, count, finished, report)
        for file in folder.iterdir():
            report.leftovers += file != target
            file.unlink()
    return report


class _Writer:
    """A process that writes files of one value each, 1, 2, 3 ..., over and over."""

    def __init__(self, target: Path, count: int) -> None:
        self.told = FORK.SimpleQueue()  # 0 before the first write, and the value after each
        self.process = FORK.Process(target=self._work, args=(target, count))
        self.process.start()
        self.told.get()

    def _work(self, target: Path, count: int) -> None:
        entries = [Entry(f"t{i}", "F32", (250, 10_000)) for i in range(count)]
        self.told.put(0)
        for value in range(1, 10_000):
            tensor = torch.full((250, 10_000), float(value))
            write_safetensors(target, entries, lambda _, w=tensor: w, {"value": str(value)}, force=value > 1)
            self.told.put(value)

    def kill(self) -> int:
        """Kill it; the value that it had written last."""
        return _killed(self.process, self.told)


def _killed(process: Any, told: Any) -> int:
    process.kill()
    process.join()
    finished = 0
    while not told.empty():
        finished = told.get()
    return finished


def _one_write(folder: Path, count: int) -> float:
    writer = _Writer(folder / "target.safetensors", count)
    start = time.perf_counter()
    writer.told.get()
    seconds = time.perf_counter() - start
    writer.kill()
    for file in folder.iterdir():
        file.unlink()
    return seconds


def _kill_one(target: Path, count: int, delay: float) -> int:
    """The number of writes that the writer had reported when it was killed."""
    writer = _Writer(target, count)
    time.sleep(delay)
    return writer.kill()


def _judge(target: Path, count: int, finished: int, report: Report) -> None:
    """The target holds what was last reported, or the one after it, if that came just before the kill."""
    if not target.exists():
        report.absent += finished == 0
        report.half += finished > 0
        return
    value = _whole_value(target, count)
    report.old += value == finished
    report.new += value == finished + 1
    report.half += value not in (finished, finished + 1)


def _whole_value(target: Path, count: int) -> int:
    """The one value that all of the file's elements have, or -1."""
    try:
        checkpoint = open_checkpoint(target)
        value = int(checkpoint.metadata["value"])
        whole = len(checkpoint) == count and all(
            bool((checkpoint[name] == value).all()) for name in checkpoint
        )
    except (DeepalignError, KeyError, ValueError):
        return -1
    return value if whole else -1


@dataclass
class Resumed(Report):
    """The same for merges into a folder, each of which was run again."""

    wrong: int = 0  # not as a merge that nothing interrupts
    kept: int = 0  # shards that did not have to be written again

    def __str__(self) -> str:
        return f"{super().__str__()}; run again: wrong {self.wrong}, shards kept {self.kept}"


def kill_merges(folder: Path, *, times: int, megabytes: int, seed: int) -> Resumed:
    """Kill `times` processes that merge into one folder over and over, and run what was killed again."""
    rng, report = random.Random(seed), Resumed()
    count = max(megabytes // TENSOR_MB, 8)
    for name, value in (("a", 1.0), ("b", 3.0)):
        (folder / name).mkdir()
        tensor = torch.full((TENSOR_MB * 1000, 250), value)
        entries = [Entry(f"layers.{i}.weight", "F32", tuple(tensor.shape)) for i in range(count)]
        write_safetensors(folder / name / "model.safetensors", entries, lambda _, w=tensor: w, {})
    started = time.perf_counter()
    merged(folder, 0)
    report.seconds = time.perf_counter() - started
    for _ in range(times):
        shutil.rmtree(folder / "out", ignore_errors=True)
        finished = _kill_merging(folder, rng.uniform(0, 2.5 * report.seconds))
        _judge_folder(folder / "out", count, finished, report)
        notes = merged(folder, finished + 1).notes
        words = [note for note in notes if note.startswith("went on")]
        report.kept += sum(int(word.split(": ")[1].split()[0]) for word in words)
        report.wrong += _value(folder / "out", count) != value_of(finished + 1)
        for left in folder.iterdir():
            if left.name not in ("a", "b", "out"):
                report.leftovers += 1
                shutil.rmtree(left)
    return report


def value_of(number: int) -> float:
    """What all elements are after the merge of that number."""
    return 1 + 2 * (number % 7 + 1) / 8


def merged(folder: Path, number: int) -> JobReport:
    """Merge the two networks of a folder."""
    share = (value_of(number) - 1) / 2
    settings = Settings("none", force=True)
    job = Job((folder / "a", folder / "b"), folder / "out", settings, max_shard=TENSOR_MB * 1_000_000)
    return merge_folder(job, "out", [], Merging((1 - share, share)))


def _kill_merging(folder: Path, delay: float) -> int:
    """Kill a process that merges over and over; how many merges it had finished."""
    told = FORK.SimpleQueue()

    def work() -> None:
        for number in range(1, 10_000):
            merged(folder, number)
            told.put(number)

    process = FORK.Process(target=work)
    process.start()
    time.sleep(delay)
    return _killed(process, told)


def _judge_folder(out: Path, count: int, finished: int, report: Report) -> None:
    if not out.exists():
        report.absent += finished == 0
        report.half += finished > 0
        return
    value = _value(out, count)
    report.old += finished > 0 and value == value_of(finished)
    report.new += value == value_of(finished + 1)
    report.half += value not in (value_of(finished + 1), *([value_of(finished)] if finished else []))


def _value(out: Path, count: int) -> float:
    """The one value that all elements of a folder have, or -1."""
    try:
        checkpoint = open_checkpoint(out)
        values = {float(end) for name in checkpoint for end in checkpoint[name].aminmax()}
    except DeepalignError:
        return -1
    return values.pop() if len(checkpoint) == count and len(values) == 1 else -1


def main() -> None:
    """Parse the command line, kill, and print one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size-gb", type=float, default=1.0)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    parser.add_argument("--sharded", action="store_true", help="kill merges into a folder of shards")
    args = parser.parse_args()
    kill = kill_merges if args.sharded else kill_writes
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        report = kill(Path(folder), times=args.times, megabytes=int(args.size_gb * 1000), seed=args.seed)
    print(f"{args.times} kills during writes of {args.size_gb:g} GB: {report}")
    sys.exit(report.half > 0 or getattr(report, "wrong", 0) > 0)


if __name__ == "__main__":
    main()
