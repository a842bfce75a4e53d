"""Two SIRENs of the same image: what permutations, signs and phases each leave of the barrier.

    deepalign zoo benchmarks/alignment.zoo.toml --data DATA --out ZOO
    python benchmarks/siren_pairs.py --data DATA ZOO/shift-siren-fashion.safetensors

The barrier is the largest excess of the squared error over the straight line between the ends, at 25 points.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.anchored import AnchorMatching
from deepalign_cli.aligners.deepalign import learned_aligner
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.errors import MismatchError
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.train.known import traced_spec
from deepalign_cli.train.tasks import Examples, load_examples
from deepalign_cli.train.zoo_files import Family, load_family

POINTS = 25
METHODS: Mapping[str, Callable[[], Aligner]] = {
    "weights": WeightMatching,
    "deepalign": lambda: learned_aligner(DEFAULT_NETWORK, "auto", 8, None),
    "canonical": AnchorMatching,  # of networks that a shipped autoencoder reads, with signs
}
MOVES = ("permutations", "signs", "phases")


def barrier(family: Family, examples: Examples, member: int, a: Weights, b: Weights) -> float:
    """The largest excess of the squared error to the image over the line between both networks' own."""
    errors, alphas = [], torch.linspace(0, 1, POINTS).tolist()
    for alpha in alphas:
        between = {name: torch.lerp(w, b[name], alpha) for name, w in a.items()}
        out = family.design(between, examples.test_x)[:, 0]
        errors.append(float((out - examples.test_y[member]).square().mean()))
    line = [(1 - alpha) * errors[0] + alpha * errors[-1] for alpha in alphas]
    return max(error - chord for error, chord in zip(errors, line, strict=True))


def symmetries(family: Family) -> dict[str, Symmetry]:
    """What may move, by how much of it is used."""
    whole = traced_spec(family.design)
    shapes = {name: tuple(w.shape) for name, w in family.network(0).items()}
    specs = (replace(whole, kinds={}, phases={}), replace(whole, phases={}), whole)
    return {name: Symmetry(spec, shapes) for name, spec in zip(MOVES, specs, strict=True)}


def pairs(family: Family) -> Iterator[tuple[int, int, int]]:
    """The member and the places of two networks of each, the first two of every image."""
    for member in family.member.unique().tolist():
        first, second, *_ = (family.member == member).nonzero().flatten().tolist()
        yield member, first, second


def measured(path: Path, data: Path) -> Iterator[list[str]]:
    """A row for each method and what it moves: the mean barrier and deviation, and the share of the first."""
    family = load_family(path)
    examples = load_examples(family.task, data)
    found: dict[tuple[str, str], list[float]] = {}
    for member, i, j in pairs(family):
        a, b = family.network(i), family.network(j)
        found.setdefault(("none", ""), []).append(barrier(family, examples, member, a, b))
        for moves, symmetry in symmetries(family).items():
            for name, make in METHODS.items():
                try:
                    g = make()(symmetry, a, b, rng=torch.Generator().manual_seed(0)).element
                except MismatchError:
                    continue
                moved = symmetry.apply(g, b)
                found.setdefault((name, moves), []).append(barrier(family, examples, member, a, moved))
    base = torch.tensor(found["weights", "permutations"]).mean()
    for (name, moves), values in found.items():
        one = torch.tensor(values)
        yield [path.stem, name, moves, f"{one.mean():.3f} +- {one.std():.3f}", f"{one.mean() / base:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    head = ["family", "method", "moves", "barrier", "of weights with permutations"]
    print("|", " | ".join(head), "|\n|" + "---|" * len(head))
    for path in asked.families:
        for row in measured(path, asked.data):
            print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
