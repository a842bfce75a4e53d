"""Pairs of classifiers of gray CIFAR-10: do canonical networks interpolate, and what do they cost?

    deepalign zoo benchmarks/canonical-cnns.zoo.toml --data DATA --out ZOO
    python benchmarks/canonical_cnns.py --zoo ZOO --data DATA --families cnn-relu [--autoencoder NAME|PATH]

Boufalis et al. 2025, figures on CNNs, with a baseline that knows of scales and signs besides permutations.
Pairs are of networks k and k + 1 in a ring, then of k and k + 2, and so on. Each path is straight: between
the weights as they are, after an alignment, between the weights that an autoencoder writes for each, or
between its latents. Shown are means over the pairs (of barriers with the deviation): of the cross-entropy
and of the accuracy, on test images, at the ends and half-way, the lowest accuracy of the mean curve, and the
barrier: the largest excess of the loss over the line between the ends. Then what reconstruction costs: how
accurate networks and written ones are, and how often a written one answers as its own network, and as others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from deepalign_cli.aligners.activations import ActivationMatching
from deepalign_cli.aligners.alignment import Aligner
from deepalign_cli.aligners.anchored import AnchorMatching
from deepalign_cli.aligners.deepalign import learned_aligner
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.none import NoAlignment
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.models.designs import Design
from deepalign_cli.network.autoencoder import Autoencoder
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.network.saved_autoencoder import load_autoencoder
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.train.known import traced_spec
from deepalign_cli.train.tasks import Examples, load_examples
from deepalign_cli.train.zoo_files import load_family

MATCHED_ON = 2000  # training images of `activations`
Network = dict[str, Tensor]
Path2 = Callable[[Network, Network], list[Network]]  # the networks of a path


@dataclass(frozen=True)
class Pool:
    """Held-out networks of one design, with what may move in them."""

    design: Design
    examples: Examples
    networks: list[Network]
    symmetry: Symmetry

    @property
    def permutations(self) -> Symmetry:
        """The same without scales and signs."""
        return Symmetry(replace(self.symmetry.spec, kinds={}, phases={}), self.symmetry.shapes)

    def pairs(self, count: int) -> list[tuple[Network, Network]]:
        """The first pairs of the ring, of neighbours before others."""
        n = len(self.networks)
        places = [(k, (k + apart) % n) for apart in range(1, (n + 1) // 2) for k in range(n)]
        return [(self.networks[i], self.networks[j]) for i, j in places[:count]]


@dataclass(frozen=True)
class Curve:
    """The loss and the accuracy along one path, and the seconds that it took to find it."""

    losses: Tensor
    accuracies: Tensor
    seconds: float

    @property
    def barrier(self) -> Tensor:
        ends = torch.lerp(self.losses[0], self.losses[-1], torch.linspace(0, 1, len(self.losses)))
        return (self.losses - ends).max()


def load_pool(zoo: Path, data: Path, families: str) -> Pool:
    """All networks of the families whose names begin so."""
    found = [load_family(path) for path in sorted(zoo.glob(f"{families}*.safetensors"))]
    networks = [family.network(i) for family in found for i in range(len(family.score))]
    spec = traced_spec(found[0].design).with_kinds(scale=True, sign=True)
    symmetry = Symmetry(spec, {name: tuple(w.shape) for name, w in networks[0].items()})
    return Pool(found[0].design, load_examples(found[0].task, data), networks, symmetry)


def straight(a: Network, b: Network, points: int) -> list[Network]:
    """The networks between two."""
    return [{n: torch.lerp(w, b[n], t) for n, w in a.items()} for t in torch.linspace(0, 1, points).tolist()]


def aligned(symmetry: Symmetry, aligner: Aligner, points: int) -> Path2:
    """The path to B after an alignment."""

    def path(a: Network, b: Network) -> list[Network]:
        g = aligner(symmetry, a, b, rng=torch.Generator().manual_seed(0)).element
        moved = symmetry.apply(g, b)
        return straight(a, {n: w.to(a[n]) for n, w in moved.items()}, points)

    return path


def paths_of(pool: Pool, model: Autoencoder, reference: str | None, points: int) -> Mapping[str, Path2]:
    """Every kind of path by its name."""
    whole, symmetry = pool.symmetry, pool.symmetry
    evidence = Evidence(pool.design, lambda: pool.examples.train_x[:MATCHED_ON].split(500))

    def decoded(a: Network, b: Network) -> list[Network]:
        return straight(model.anchor(symmetry, a), model.anchor(symmetry, b), points)

    def latents(a: Network, b: Network) -> list[Network]:
        first, last = model.latent(symmetry, a), model.latent(symmetry, b)
        steps = torch.linspace(0, 1, points).tolist()
        return [model.decode(torch.lerp(first, last, t), symmetry) for t in steps]

    methods: dict[str, tuple[Symmetry, Aligner]] = {
        "naive": (whole, NoAlignment()),
        "weights, permutations only": (pool.permutations, WeightMatching()),
        "weights": (whole, WeightMatching()),
        "activations, 2,000 images": (whole, ActivationMatching(evidence)),
        "deepalign": (whole, learned_aligner(DEFAULT_NETWORK, "auto", 8, None)),
        "canonical": (whole, AnchorMatching(reference)),
    }
    paths = {name: aligned(moves, aligner, points) for name, (moves, aligner) in methods.items()}
    return paths | {"decoded": decoded, "latents": latents}


def curve(pool: Pool, path: Path2, a: Network, b: Network) -> Curve:
    """What the networks of a path do on the test images."""
    started = time.perf_counter()
    networks = path(a, b)
    seconds = time.perf_counter() - started
    outputs = [pool.design(network, pool.examples.test_x) for network in networks]
    y = pool.examples.test_y
    losses = torch.stack([cross_entropy(out, y) for out in outputs])
    return Curve(losses, torch.stack([(out.argmax(-1) == y).float().mean() for out in outputs]), seconds)


def rows_of(
    pool: Pool, paths: Mapping[str, Path2], pairs: int
) -> Iterator[tuple[list[str], dict[str, object]]]:
    """The table, and the mean curves."""
    for name, path in paths.items():
        found = [curve(pool, path, a, b) for a, b in pool.pairs(pairs)]
        losses = torch.stack([one.losses for one in found]).mean(0)
        accuracies = torch.stack([one.accuracies for one in found]).mean(0)
        barriers, half = torch.stack([one.barrier for one in found]), len(losses) // 2
        seconds = sum(one.seconds for one in found) / len(found)
        ends = (losses[0] + losses[-1]) / 2, (accuracies[0] + accuracies[-1]) / 2
        cells = [
            f"{ends[0]:.3f}", f"{losses[half]:.3f}", f"{barriers.mean():.3f} +- {barriers.std():.3f}",
            f"{100 * ends[1]:.1f} %", f"{100 * accuracies[half]:.1f} %", f"{100 * accuracies.min():.1f} %",
            f"{seconds:.2f} s",
        ]  # fmt: skip
        kept = {"losses": losses.tolist(), "accuracies": accuracies.tolist(), "barriers": barriers.tolist()}
        yield [name, *cells], {"path": name, **kept}


def costs(pool: Pool, model: Autoencoder) -> str:
    """What reconstruction costs."""
    x, y = pool.examples.test_x, pool.examples.test_y
    said = torch.stack([pool.design(net, x).argmax(-1) for net in pool.networks])
    anchors = [model.anchor(pool.symmetry, net) for net in pool.networks]
    wrote = torch.stack([pool.design(net, x).argmax(-1) for net in anchors])
    agree = (wrote.unsqueeze(1) == said).float().mean(-1)
    alike = (said.unsqueeze(1) == said).float().mean(-1)
    n, own = len(said), (said == y).float().mean(1)
    lost = own - (wrote == y).float().mean(1)
    others = [(m.sum() - m.diagonal().sum()) / (n * (n - 1)) for m in (agree, alike)]
    accuracies = f"{100 * own.mean():.1f} %, of what is written {100 * (own - lost).mean():.1f} %"
    return (
        f"{n} networks: accuracy {accuracies}, "
        f"lost {100 * lost.mean():.1f} +- {100 * lost.std():.1f} points, most {100 * lost.max():.1f}; "
        f"a written network answers as its own in {100 * agree.diagonal().mean():.1f} %, as another in "
        f"{100 * others[0]:.1f} %; two networks answer alike in {100 * others[1]:.1f} %"
    )


def change(pool: Pool, aligner: AnchorMatching) -> float:
    """How much canonical places change an output at most, in float64, over the largest one."""
    x, found = pool.examples.test_x[:200].double(), []
    for network in pool.networks:
        g = aligner.carried(pool.symmetry, network, aligner.anchor(pool.symmetry, network))
        wide = {name: w.double() for name, w in network.items()}
        before, after = pool.design(wide, x), pool.design(pool.symmetry.apply(g, wide), x)
        found.append(float((after - before).abs().max() / before.abs().max()))
    return max(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--families", default="cnn-relu", help="how their names begin")
    parser.add_argument("--autoencoder", help="by default the one that fits")
    parser.add_argument("--points", type=int, default=11)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--paths", nargs="+", help="all, if not given: how their names begin")
    parser.add_argument("--out", type=Path, help="a JSON file for the mean curves")
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    pool = load_pool(asked.zoo, asked.data, asked.families)
    aligner = AnchorMatching(asked.autoencoder)
    model = load_autoencoder(asked.autoencoder) if asked.autoencoder else aligner.model(pool.symmetry)
    print(costs(pool, model))
    print(f"canonical places change outputs by {change(pool, aligner):.1e} of the largest, in float64")
    head = ["path", "loss: ends", "half-way", "barrier", "accuracy: ends", "half-way", "lowest", "time"]
    print("|", " | ".join(head), "|\n|" + "---|" * len(head))
    curves = []
    paths = paths_of(pool, model, asked.autoencoder, asked.points)
    chosen = {n: path for n, path in paths.items() if n.startswith(tuple(asked.paths or [""]))}
    for row, kept in rows_of(pool, chosen, asked.pairs):
        curves.append(kept)
        print("|", " | ".join(row), "|", flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
