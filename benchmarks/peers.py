"""Barrier and midpoint accuracy of naive averaging and weight matching on trained pairs.

    python benchmarks/peers.py --data mnist.npz --nets DIR [--pairs 1] [--alphas 25]

The pairs come from `train_peers.py`. For each: the barrier of the test loss over `--alphas` points and
the accuracy at the midpoint, raw and (BatchNorm nets) with statistics re-estimated on 2,000 training
images at every point; and the largest relative logit difference between B and the permuted B, in float32.
`weights + statistics` also counts BatchNorm's running statistics in the objective: the measurement
behind leaving them out.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from peer_nets import Data, barrier, build, load_data
from reference import prepared, weight_matching
from torch import Tensor

from deepalign_cli.aligners.none import NoAlignment
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.operations.settings import Settings
from deepalign_cli.symmetry.axes import without_marks
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensors import is_trained

Weights = Mapping[str, Tensor]


def plain_matching(symmetry: Symmetry, a: Weights, b: Weights) -> Element:
    """The reference's descent from one random order."""
    axes = {
        name: [str(axis) for axis in without_marks(axes)]
        for name, axes in symmetry.spec.axes.items()
        if symmetry.moves(name) and is_trained(name, a[name])
    }
    layout, left = prepared(axes, a)
    _, right = prepared(axes, b)
    return Element(weight_matching(layout, left, right, seed=0)[0])


def elements(symmetry: Symmetry, a: Weights, b: Weights) -> dict[str, Element]:
    """The element that each method finds."""
    methods = {
        "none": NoAlignment(),
        "weights": WeightMatching(),
        "weights + statistics": WeightMatching(counted=lambda _, w: w.is_floating_point()),
    }
    if not any("running_var" in name for name in a):
        del methods["weights + statistics"]
    found = {
        name: method(symmetry, a, b, rng=torch.Generator().manual_seed(0)).element
        for name, method in methods.items()
    }
    return {**found, "plain scipy, one order": plain_matching(symmetry, a, b)}


def changed(name: str, before: Weights, after: Weights, data: Data) -> float:
    """The largest logit difference of two sets of weights relative to the largest logit."""
    net = build(name).eval()
    logits = []
    for weights in (before, after):
        net.load_state_dict(dict(weights))
        with torch.no_grad():
            logits.append(net(data.test_x[:500]))
    return float((logits[1] - logits[0]).abs().max() / logits[0].abs().max())


def report(name: str, pair: int, folder: Path, data: Data, alphas: int) -> None:
    """Print the lines of one pair."""
    opened = [open_checkpoint(folder / f"{name}-{seed}.safetensors") for seed in (2 * pair, 2 * pair + 1)]
    symmetry = Settings().symmetry(opened[0])
    a, b = ({n: c[n].clone() for n in c} for c in opened)
    for method, element in elements(symmetry, a, b).items():
        moved = symmetry.apply(element, b)
        raw = barrier(lambda: build(name), a, moved, data, alphas)
        line = f"{name:>12} {pair} {method:>22}  raw {raw.barrier:6.3f} / {100 * raw.midpoint_accuracy:5.1f}"
        if any("running_var" in n for n in a):
            fixed = barrier(lambda: build(name), a, moved, data, alphas, repair_bn=True)
            line += f"  fixed {fixed.barrier:6.3f} / {100 * fixed.midpoint_accuracy:5.1f}"
        print(f"{line}  change {changed(name, b, moved, data):.1e}", flush=True)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nets", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--alphas", type=int, default=25)
    nets = ["mlp128", "mlp512", "cnn", "cnn_bn", "resnet_bn", "resnet32_bn"]
    parser.add_argument("names", nargs="*", default=nets)
    arguments = parser.parse_args()
    data = load_data(arguments.data)
    for name in arguments.names:
        for pair in range(arguments.pairs):
            if (arguments.nets / f"{name}-{2 * pair + 1}.safetensors").exists():
                report(name, pair, arguments.nets, data, arguments.alphas)


if __name__ == "__main__":
    main()
