"""Kill a process at random moments while it writes a checkpoint, and look at what is there afterwards.

    python benchmarks/kill.py --size-gb 1 --times 50

The target must be absent, the old file, or the new one; never half of one.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import DeepalignError

TENSOR_MB = 10
# Writes files of one value each, 1, 2, 3 ..., over and over; says so before the first and after each.
WRITER = """
import sys, torch
from deepalign_cli.checkpoint import Entry, write_safetensors
path, count, first = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
entries = [Entry(f"t{i}", "F32", (250, 10_000)) for i in range(count)]
print("ready", flush=True)
for value in range(first, first + 10_000):
    tensor = torch.full((250, 10_000), float(value))
    write_safetensors(path, entries, lambda name: tensor, {"value": str(value)}, force=value > first)
    print(value, flush=True)
"""


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


def _start(target: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(target), str(count), "1"]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
    assert writer.stdout is not None
    if writer.stdout.readline() != "ready\n":
        raise RuntimeError("the writer did not start")
    return writer


def _one_write(folder: Path, count: int) -> float:
    target = folder / "target.safetensors"
    with _start(target, count) as writer:
        assert writer.stdout is not None
        start = time.perf_counter()
        writer.stdout.readline()
        seconds = time.perf_counter() - start
        writer.kill()
    for file in folder.iterdir():
        file.unlink()
    return seconds


def _kill_one(target: Path, count: int, delay: float) -> int:
    """The number of writes that the writer had reported when it was killed."""
    with _start(target, count) as writer:
        assert writer.stdout is not None
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        return len(writer.stdout.readlines())


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


def main() -> None:
    """Parse the command line, kill, and print one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size-gb", type=float, default=1.0)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to write (a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        report = kill_writes(
            Path(folder), times=args.times, megabytes=int(args.size_gb * 1000), seed=args.seed
        )
    print(f"{args.times} kills during writes of {args.size_gb:g} GB: {report}")
    sys.exit(report.half > 0)


if __name__ == "__main__":
    main()
