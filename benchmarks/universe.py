"""The mean of many networks: aligned to one of them (a star), to their running mean, and to one another.

    deepalign zoo benchmarks/alignment.zoo.toml --data DATA --out ZOO
    python benchmarks/universe.py --zoo ZOO --data DATA [--only mlp-mnist-128x3]

For each family the accuracy of the mean of all its networks, over the stars of the first three. Nothing is
dreamed. Statistics of BatchNorm are re-estimated on 2,000 training images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.deepalign import learned_aligner
from deepalign_cli.aligners.running_mean import Matching, onto_mean
from deepalign_cli.aligners.universe import universal
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.repair import reestimated
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.train.known import symmetry_of
from deepalign_cli.train.tasks import Examples, load_examples
from deepalign_cli.train.zoo_files import Family, load_family

METHODS: Mapping[str, Callable[[], Aligner]] = {
    "weights": WeightMatching,
    "deepalign": lambda: learned_aligner(DEFAULT_NETWORK, "auto", 8, None),
}
STARS = 3
REPAIRED_ON = 2000  # training images


def accuracy(family: Family, examples: Examples, networks: Sequence[Weights]) -> float:
    """That of the mean of some networks, on test images; BatchNorm is re-estimated on training images."""
    mean = {name: torch.stack([one[name] for one in networks]).mean(0) for name in networks[0]}
    mean |= reestimated(family.design, mean, lambda: [examples.train_x[:REPAIRED_ON]])
    out: Tensor = family.design(mean, examples.test_x)
    return float((out.argmax(-1) == examples.test_y).float().mean())


def matching(symmetry: Symmetry, aligner: Aligner) -> Matching:
    """What the running mean asks of a method."""
    return lambda a, b, _: aligner(symmetry, a, b, rng=torch.Generator().manual_seed(0)).element


def rows(zoo: Path, data: Path, only: Sequence[str]) -> Iterator[list[str]]:
    """For each family and method the means over the stars, with their range."""
    yield ["family", "one network", "as they are", "method", "star", "mean", "universe"]
    for path in sorted(zoo.glob("*.safetensors")):
        if only and not any(path.stem.startswith(name) for name in only):
            continue
        family = load_family(path)
        examples = load_examples(family.task, data)
        networks = [family.network(i) for i in range(len(family.member))]
        symmetry = symmetry_of(family.design, networks[0])
        alone = sum(accuracy(family, examples, [one]) for one in networks) / len(networks)
        naive = accuracy(family, examples, networks)
        for name, make in METHODS.items():
            found: dict[str, list[float]] = {"star": [], "mean": [], "universe": []}
            for first in range(STARS):
                rng, aligner = torch.Generator().manual_seed(0), make()
                pivot, *others = (networks[first], *networks[:first], *networks[first + 1 :])
                star = [symmetry.identity()]
                star += [aligner(symmetry, pivot, one, rng=rng).element for one in others]
                every = universal(symmetry, [pivot, *others], star, rng)[0]
                mean = onto_mean(symmetry, [pivot, *others], star, matching(symmetry, aligner))[0]
                for which, elements in (("star", star), ("mean", mean), ("universe", every)):
                    moved = [symmetry.apply(g, w) for g, w in zip(elements, (pivot, *others), strict=True)]
                    found[which].append(accuracy(family, examples, moved))
            cells = [f"{sum(a) / STARS:.3f} ({min(a):.3f} to {max(a):.3f})" for a in found.values()]
            yield [path.stem, f"{alone:.3f}", f"{naive:.3f}", name, *cells]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args()
    for number, row in enumerate(rows(asked.zoo, asked.data, asked.only)):
        print("|", " | ".join(row), "|", flush=True)
        if not number:
            print("|" + "---|" * len(row))


if __name__ == "__main__":
    main()
