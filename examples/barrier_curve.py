"""Measure what merging two checkpoints costs, with the library, without the command line.

    python examples/barrier_curve.py A B DATA [--plot curve.png]

The steps are those of `deepalign barrier A B --data DATA -m weights -m deepalign` without its choice by
data: open both, find the symmetry and the architecture, align B to A by each method, run the networks along
the path. A picture needs matplotlib: `pip install 'deepalign[plot]'`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.deepalign import LearnedAligner
from deepalign_cli.aligners.none import NoAlignment
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.data.sources import load_data
from deepalign_cli.errors import DeepalignError
from deepalign_cli.measure.curve import Curve
from deepalign_cli.measure.losses import pick_loss
from deepalign_cli.measure.paths import NetworkPath, alphas_of, measure
from deepalign_cli.models.lookup import network_for
from deepalign_cli.network.pretrained import load_pretrained
from deepalign_cli.plots import save_curves
from deepalign_cli.symmetry.resolve import check_same_layout, resolve_spec, shapes_of
from deepalign_cli.symmetry.symmetry import Symmetry


def curves_of(first: Path, second: Path, source: str, points: int = 25, seed: int = 0) -> list[Curve]:
    """The curve of every method.

    Raises:
        DeepalignError: the checkpoints, their architecture and the data do not fit one another.
    """
    a, b = open_checkpoint(first), open_checkpoint(second)
    check_same_layout(a, b)
    symmetry = Symmetry(resolve_spec(a), shapes_of(a))
    network = network_for(a)
    data = load_data(source, None, declared=network.preparation)
    loss, why = pick_loss(None, *next(data.batches(8)))
    print(f"{network.says}; {loss.name}, {why}")

    methods: Mapping[str, Aligner] = {
        "none": NoAlignment(),
        "weights": WeightMatching(),
        "deepalign": LearnedAligner(load_pretrained("universal-v1")),
    }
    paths = []
    for name, aligner in methods.items():
        alignment = aligner(symmetry, a, b, rng=torch.Generator().manual_seed(seed))
        paths.append(NetworkPath(name, dict(alignment.apply(b)), alignment.seconds))
    return measure(network.run, a, paths, data, loss, alphas_of(points))


def main() -> int:
    """Parse the command line, measure, print and draw."""
    parser = argparse.ArgumentParser(description="Measure what merging two checkpoints costs.")
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("data", help="as deepalign's --data: a .npz or .safetensors file, ...")
    parser.add_argument("--points", type=int, default=25, help="points from A to B (default 25)")
    parser.add_argument("--plot", type=Path, help="draw the curves to this .png, .svg, .pdf or .html file")
    args = parser.parse_args()
    try:
        curves = curves_of(args.first, args.second, args.data, args.points)
        for curve in curves:
            share = (
                "" if curve.midpoint_accuracy is None else f", {100 * curve.midpoint_accuracy:.2f} % right"
            )
            print(
                f"{curve.method:9}  barrier {curve.barrier:.4f}  AUC {curve.auc:.4f}  "
                f"midpoint: loss {curve.midpoint_loss:.4f}{share}"
            )
        if args.plot:
            save_curves(args.plot, curves, names=(args.first.name, args.second.name))
    except DeepalignError as error:
        print(f"{error.message} {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
