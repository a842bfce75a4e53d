"""Memory and time of aligning and merging two 1 GB checkpoints of 2048-wide layers.

    python benchmarks/memory.py FOLDER [--layers 64]

Makes the two files in FOLDER (16 MB a tensor), then runs the command line in processes of its own and
samples their anonymous memory (RssAnon) every 5 ms; the base is an interpreter that has imported torch.
The merge alone, with the saved alignment, is timed beside a copy of one file to the same disk, both
with fsync, best of three, with the inputs in the page cache.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import torch

from deepalign_cli.checkpoint import Entry, write_safetensors

WIDTH = 2048


def make(path: Path, layers: int, seed: int) -> None:
    """Write a chain of `layers` square linear layers with random weights."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {f"layers.{i}.weight": (WIDTH, WIDTH) for i in range(layers)}
    entries = [Entry(name, "F32", shape) for name, shape in shapes.items()]
    write_safetensors(
        path,
        entries,
        lambda name: torch.randn(shapes[name], generator=generator) / WIDTH**0.5,
        {"format": "pt"},
        force=True,
    )


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory that a process holds; 0 once it has gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def watched(command: list[str], output: int | IO[str] = subprocess.DEVNULL) -> tuple[float, int]:
    """Wall seconds and peak anonymous bytes of a command, which writes to `output`."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=output)
    while process.poll() is None:
        peak = max(peak, anonymous(process.pid))
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"{command} exited with {process.returncode}")
    return time.perf_counter() - started, peak


def copied(source: Path, target: Path) -> float:
    """Seconds to copy a file and bring it to the disk."""
    target.unlink(missing_ok=True)
    started = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb+") as file:
        os.fsync(file.fileno())
    return time.perf_counter() - started


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=64)
    keep_help = "leave the checkpoints and the alignment there, and use those that are there"
    parser.add_argument("--keep", action="store_true", help=keep_help)
    arguments = parser.parse_args()
    a, b, out, saved = (
        arguments.folder / f"{name}.safetensors" for name in ("big-a", "big-b", "big-out", "big-align")
    )
    for seed, path in enumerate((a, b)):
        if not path.exists():
            make(path, arguments.layers, seed)
    hold = "import torch, time; torch.ones(1) + 1; time.sleep(1)"
    _, base = watched([sys.executable, "-c", hold])
    tool = [sys.executable, "-m", "deepalign_cli", "merge", str(a), str(b), "-q", "--force", "-o", str(out)]
    if not saved.exists():
        seconds, peak = watched([*tool, "--save-alignment", str(saved)])
        above = (peak - base) / 1e6
        print(f"align by weights and merge: {seconds:7.2f} s, {above:6.0f} MB above torch", flush=True)
    merges, copies = [], []
    for _ in range(3):
        copies.append(copied(a, out))
        out.unlink()
        seconds, peak = watched([*tool, "--alignment", str(saved)])
        merges.append(seconds)
        out.unlink()
    imported, _ = watched([sys.executable, "-c", "import torch"])
    print(f"merge alone:                {min(merges):7.2f} s, {(peak - base) / 1e6:6.0f} MB above torch")
    print(f"  of that, importing torch: {imported:7.2f} s")
    print(f"copy of one file:           {min(copies):7.2f} s")
    print(f"ratio merge / copy:         {min(merges) / min(copies):7.2f}")
    print(f"  without importing torch:  {(min(merges) - imported) / min(copies):7.2f}")
    for path in () if arguments.keep else (saved, a, b):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
