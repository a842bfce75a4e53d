"""Align and merge two checkpoints with the library, without the command line.

    python examples/merge_two.py A B OUT

The steps are those of `deepalign merge A B -o OUT`: open both, find the symmetry of the architecture, carry
B's units onto A's, average, write. One tensor of each input is in memory at a time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.checkpoint import Entry, open_checkpoint, tied_metadata, write_safetensors
from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.errors import DeepalignError
from deepalign_cli.network.pretrained import load_pretrained
from deepalign_cli.symmetry.resolve import check_same_layout, resolve_spec, shapes_of
from deepalign_cli.symmetry.symmetry import Symmetry


def merge_two(first: Path, second: Path, output: Path, alpha: float = 0.5, seed: int = 0) -> None:
    """Write (1 - alpha) A + alpha aligned(B) to `output`, and print what was done.

    Raises:
        DeepalignError: the inputs do not fit each other, or the output cannot be written.
    """
    a, b = open_checkpoint(first), open_checkpoint(second)
    check_same_layout(a, b)
    spec = resolve_spec(a)
    symmetry = Symmetry(spec, shapes_of(a))
    aligner = LearnedAligner(load_pretrained("universal-v1"))
    alignment = aligner(symmetry, a, b, rng=torch.Generator().manual_seed(seed))
    average = WeightedMean((1 - alpha, alpha))
    names = {info.stored_name: name for name, info in a.infos.items()}

    def read(stored: str) -> Tensor:
        name = names[stored]
        return average(name, [a[name], alignment.act(name, b[name])])

    entries = [Entry(info.stored_name, info.dtype, info.shape) for info in a.infos.values()]
    metadata = {"format": "pt", **tied_metadata(a.infos.values())}
    write_safetensors(output, entries, read, metadata, inputs=[first, second])
    for doubt in spec.doubts:
        print(f"doubt: {doubt}", file=sys.stderr)
    print(f"{output}: distance {alignment.distance_before:.2f} -> {alignment.distance_after:.2f}")


def main() -> int:
    """Parse the command line and merge."""
    parser = argparse.ArgumentParser(description="Align and merge two checkpoints.")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--alpha", type=float, default=0.5, help="the share of the second (default 0.5)")
    args = parser.parse_args()
    try:
        merge_two(args.first, args.second, args.output, args.alpha)
    except DeepalignError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
