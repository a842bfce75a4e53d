"""Weight matching beside a straightforward scipy coordinate descent: objective and time, same run.

    python benchmarks/weights.py PAIR.safetensors PAIR.safetensors [more pairs ...]

Prints one line a pair: both objectives <A, gB>, their difference in percent, the times and their
ratio, both from one start (`--restarts 1`).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from reference import objective, prepared, weight_matching

from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.settings import Settings
from deepalign_cli.symmetry.axes import without_marks
from deepalign_cli.symmetry.tensors import is_trained


def compare(first: Path, second: Path, seed: int, restarts: int | None) -> None:
    """Print the line of one pair."""
    a, b = open_checkpoint(first), open_checkpoint(second)
    symmetry = Settings().symmetry(a)
    weights = [{n: c[n].clone() for n in c} for c in (a, b)]
    axes = {
        name: [str(axis) for axis in without_marks(axes)]
        for name, axes in symmetry.spec.axes.items()
        if symmetry.moves(name) and is_trained(name, weights[0][name])
    }
    layout, left = prepared(axes, weights[0])
    _, right = prepared(axes, weights[1])
    started = time.perf_counter()
    perm, sweeps = weight_matching(layout, left, right, seed)
    theirs = time.perf_counter() - started
    started = time.perf_counter()
    found = WeightMatching(restarts)(symmetry, *weights, rng=torch.Generator().manual_seed(seed))
    ours = time.perf_counter() - started
    plain, mine = objective(layout, left, right, perm), objective(layout, left, right, found.element.perm)
    widest = max(symmetry.sizes.values())
    print(
        f"{first.stem:>14} {second.stem:>14} {widest:6d} {plain:12.4f} {mine:12.4f} "
        f"{100 * (mine / plain - 1):+8.3f} {sweeps:6d} {theirs:9.3f} {ours:9.3f} {ours / theirs:6.2f}",
        flush=True,
    )


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--restarts", type=int, default=None, help="as of the aligner; its own default otherwise"
    )
    arguments = parser.parse_args()
    print(
        f"{'A':>14} {'B':>14} {'widest':>6} {'scipy <A,gB>':>12} {'ours <A,gB>':>12} "
        f"{'diff %':>8} {'sweeps':>6} {'scipy s':>9} {'ours s':>9} {'ratio':>6}"
    )
    for first, second in zip(arguments.files[::2], arguments.files[1::2], strict=True):
        compare(first, second, arguments.seed, arguments.restarts)


if __name__ == "__main__":
    main()
