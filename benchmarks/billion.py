"""Aligning and merging two Llama-shaped networks of a billion parameters: time beside its floor, and memory.

    python -m benchmarks.billion FOLDER [--gigabytes 2.2] [--keep]

Makes in FOLDER two networks in bfloat16, in shards: A has random weights, and B is A with noise of 0.3 of its
deviation on every tensor, and with all units that may move (heads, their dimensions, MLP units, the residual
stream) in another order. Then, each in a process of its own: `deepalign merge -m weights -o OUT/`, from start
to exit; reading all files of both twice; and the assignments alone: of every group the product of its rows in
both networks, under the planted element, and the linear assignment on it. Memory is anonymous (RssAnon,
sampled every 5 ms). The cache of traces is empty.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.memory import watched
from benchmarks.streaming import WIDTH, WORDS, axes_of, values, write_folder
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import load_alignment, save_alignment
from deepalign_cli.aligners.gains import Gains
from deepalign_cli.assignment import assign
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import Settings
from deepalign_cli.symmetry.resolve import shapes_of

NOISE, CHUNK, SHARDS = 0.3, 1 << 22, "500MB"


def make(folder: Path, gigabytes: float) -> tuple[Path, Path, Path]:
    """A, B, and the file of the alignment that carries B onto A, each written tensor by tensor."""
    a, b, planted = (folder / name for name in ("a", "b", "planted.alignment"))
    one = 2 * sum(torch.Size(shape).numel() for name, (_, shape) in axes_of(1).items() if "layers" in name)
    layers = max(1, round((gigabytes * 1e9 - 4 * WORDS * WIDTH) / one))
    table = axes_of(layers)
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(1 << 24, generator=generator) / WIDTH**0.5
    near = (block + NOISE * torch.randn(block.shape, generator=generator) / WIDTH**0.5).bfloat16()
    own = block.bfloat16()
    write_folder(a, table, lambda name, place: values(own, place, table[name][1]), layers)
    symmetry = Session((a, a), Settings("weights")).symmetry
    element = symmetry.random(generator)
    back = element.inverse()
    write_folder(
        b, table, lambda name, place: symmetry.act(back, name, values(near, place, table[name][1])), layers
    )
    hashes = open_checkpoint(a).sha256(), open_checkpoint(b).sha256()
    save_alignment(planted, Alignment(symmetry, element, "planted", 0.0, 1.0, 0.5), hashes)
    return a, b, planted


def assignments(a: Path, b: Path, planted: Path) -> dict[str, float]:
    """Seconds that the products of all groups take, and the assignments on them."""
    reference, moving = open_checkpoint(a), open_checkpoint(b)
    known = load_alignment(planted, shapes_of(reference))
    problem = Gains(known.symmetry, reference, moving)
    times = {"products": 0.0, "assignments": 0.0}
    for group, names in problem.names.items():
        started = time.perf_counter()
        gains = problem.partial(group, known.element, names)
        ended = time.perf_counter()
        assign(gains.plain)
        times["products"] += ended - started
        times["assignments"] += time.perf_counter() - ended
    return times


def read_twice(*folders: Path) -> float:
    """Seconds that it takes to read all files, one after the other, two times."""
    started, buffer = time.perf_counter(), bytearray(CHUNK)
    for _ in range(2):
        for path in (path for folder in folders for path in sorted(folder.glob("*.safetensors"))):
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
    return time.perf_counter() - started


def floor(a: Path, b: Path, planted: Path) -> dict[str, float]:
    """What `assignments` and `read_twice` measure, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.billion", str(a.parent), "--floor"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def merged(a: Path, b: Path, folder: Path) -> tuple[float, int, dict[str, object]]:
    """Seconds and peak bytes of the merge, and what it says of itself."""
    report = folder / "merge.json"
    words = ["merge", str(a), str(b), "-m", "weights", "-o", f"{folder / 'out'}/", "--json"]
    words += ["--max-shard-size", SHARDS, "--save-alignment", str(folder / "found.alignment")]
    with report.open("w") as file:
        seconds, peak = watched([sys.executable, "-m", "deepalign_cli", *words], file)
    return seconds, peak, json.loads(report.read_text())


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.2, help="of each network")
    parser.add_argument("--keep", action="store_true", help="leave the files")
    parser.add_argument("--floor", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder
    names = (folder / name for name in ("a", "b", "planted.alignment"))
    if arguments.floor:
        a, b, planted = names
        print(json.dumps({"reading": read_twice(a, b), **assignments(a, b, planted)}))
        return
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DEEPALIGN_CACHE"] = cache
        try:
            report(*make(folder, arguments.gigabytes))
        finally:
            for name in () if arguments.keep else ("a", "b", "out"):
                shutil.rmtree(folder / name, ignore_errors=True)


def report(a: Path, b: Path, planted: Path) -> None:
    """Measure and print."""
    os.sync()
    load = os.getloadavg()[0]
    lowest = floor(a, b, planted)
    seconds, peak, told = merged(a, b, a.parent)
    shapes = shapes_of(open_checkpoint(a))
    wanted, found = (
        load_alignment(path, shapes).element.perm for path in (planted, a.parent / "found.alignment")
    )
    same = sum(bool(torch.equal(found[group], perm)) for group, perm in wanted.items())
    size = sum(info.numel for info in open_checkpoint(a).infos.values())
    print(f"two networks of {size / 1e9:.2f} billion parameters; load {load:.1f} on {os.cpu_count()} cores")
    print(f"align and merge: {seconds:.1f} s, peak {peak / 1e6:.0f} MB of anonymous memory; "
          f"{same} of {len(wanted)} groups as planted; distance {told['distance_before']:.1f} -> "
          f"{told['distance_after']:.1f}")  # fmt: skip
    print("floor: " + ", ".join(f"{name} {value:.1f} s" for name, value in lowest.items()))
    whole = sum(lowest.values())
    print(f"over products, assignments and reading twice: {seconds / whole:.2f}")
    print(f"over assignments and reading twice: {seconds / (whole - lowest['products']):.1f}")


if __name__ == "__main__":
    main()
