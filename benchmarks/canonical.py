"""Interpolating between two members of one orbit of a SIREN: do the paths collapse?

    deepalign zoo pretrained/scalegmn-siren-mnist-v1.zoo.toml --data DATA --out ZOO
    python benchmarks/canonical.py --zoo ZOO --data DATA [--autoencoder NAME|PATH ...] [--networks 10]

Boufalis et al. 2025, figure on INRs: of each held-out network two copies are made by random elements of the
group, of permutations (P), signs (D) or both (PD), and the second gets noise of .005 on every parameter.
Between them lie paths: of the weights as they are, of the weights after signed weight matching, of the
weights that an autoencoder writes for each end, and of its latents. Shown is the mean squared error to the
true image, whose brightness is in [0, 1]: mean and standard deviation over the networks, at the ends and at
the midpoint, and the largest of the mean curve; and how far the latents of an orbit are apart, in units of
the distance between networks of different images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.network.autoencoder import Autoencoder
from deepalign_cli.network.saved_autoencoder import load_autoencoder
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.train.corpus import Corpus, load_corpus
from deepalign_cli.train.functional_losses import outputs_of
from deepalign_cli.train.tasks import load_examples
from deepalign_cli.train.zoo_files import load_family

ALPHAS = torch.linspace(0, 1, 21)
NOISE = 0.005
ORBITS: Mapping[str, Callable[[Element], Element]] = {
    "P": lambda g: Element(g.perm),
    "D": lambda g: Element({}, g.scale),
    "PD": lambda g: g,
}
Stack = dict[str, Tensor]
Path2 = Callable[[Symmetry, Stack, Stack], Stack]  # all networks of a path, stacked


def between(a: Stack, b: Stack) -> Stack:
    """The straight path."""
    return {n: torch.stack([torch.lerp(w, b[n], float(t)) for t in ALPHAS]) for n, w in a.items()}


def matched(symmetry: Symmetry, a: Stack, b: Stack) -> Stack:
    """The path to B after signed weight matching."""
    found = WeightMatching()(symmetry, a, b, rng=torch.Generator().manual_seed(0))
    return between(a, symmetry.apply(found.element, b))


def paths_of(autoencoders: list[Autoencoder]) -> dict[str, Path2]:
    """Every kind of path by its name."""
    paths: dict[str, Path2] = {"naive": lambda _, a, b: between(a, b), "signed weight matching": matched}
    for model in autoencoders:

        def decoded(s: Symmetry, a: Stack, b: Stack, model: Autoencoder = model) -> Stack:
            return between(model.anchor(s, a), model.anchor(s, b))

        def latent(s: Symmetry, a: Stack, b: Stack, model: Autoencoder = model) -> Stack:
            first, last = model.latent(s, a), model.latent(s, b)
            return model.decode(torch.stack([torch.lerp(first, last, float(t)) for t in ALPHAS]))

        paths |= {f"decoded by {model.name}": decoded, f"latents of {model.name}": latent}
    return paths


def orbit_pairs(corpus: Corpus, count: int, which: str) -> Iterator[tuple[int, Stack, Stack]]:
    """For some held-out networks two members of its orbit, the second with noise."""
    symmetry, rng = corpus.blueprint.symmetry, torch.Generator().manual_seed(1)
    for index in corpus.held[:count].tolist():
        net = {n: w[index] for n, w in corpus.weights.items()}
        a, b = (symmetry.apply(ORBITS[which](symmetry.random(rng)), net) for _ in range(2))
        b = {n: w + NOISE * torch.randn(w.shape, generator=rng) for n, w in b.items()}
        yield index, a, b


def curves(corpus: Corpus, images: Tensor, path: Path2, count: int, which: str) -> Tensor:
    """The error to the true image along the path, a row for each network; brightness is in [0, 1]."""
    rows = []
    for index, a, b in orbit_pairs(corpus, count, which):
        values = outputs_of(corpus.design, path(corpus.blueprint.symmetry, a, b), corpus.inputs)[..., 0]
        rows.append((values - images[index]).square().mean(1) / 4)
    return torch.stack(rows)


def gaps(corpus: Corpus, model: Autoencoder, count: int, which: str) -> Tensor:
    """How far a network's latent is from that of a moved copy, over the distance of other images' latents."""
    symmetry, rng = corpus.blueprint.symmetry, torch.Generator().manual_seed(2)
    nets = [{n: w[i] for n, w in corpus.weights.items()} for i in corpus.held[:count].tolist()]
    latents = torch.stack([model.latent(symmetry, net) for net in nets])
    apart = torch.pdist(latents).mean()
    moved = [symmetry.apply(ORBITS[which](symmetry.random(rng)), net) for net in nets]
    return torch.stack([model.latent(symmetry, net) for net in moved]).sub(latents).norm(dim=1) / apart


def rows_of(corpus: Corpus, images: Tensor, models: list[Autoencoder], count: int) -> Iterator[list[str]]:
    """The table."""
    yield ["path", "orbit", "ends", "midpoint", "highest of the mean curve"]
    for name, path in paths_of(models).items():
        for which in ORBITS:
            found = curves(corpus, images, path, count, which)
            ends, middle = found[:, [0, -1]].mean(1), found[:, len(ALPHAS) // 2]
            cells = [f"{x.mean():.4f} ± {x.std():.4f}" for x in (ends, middle)]
            yield [name, which, *cells, f"{float(found.mean(0).max()):.4f}"]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--zoo", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--autoencoder", nargs="*", default=["scalegmn-siren-mnist-v1"])
    parser.add_argument("--networks", type=int, default=10)
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    corpus = load_corpus(asked.zoo, asked.data)
    family = load_family(asked.zoo / f"{corpus.names[0]}.safetensors")
    images = load_examples(family.task, asked.data).train_y[family.member]
    models = [load_autoencoder(name) for name in asked.autoencoder]
    for number, row in enumerate(rows_of(corpus, images, models, asked.networks)):
        print("|", " | ".join(row), "|", flush=True)
        if not number:
            print("|" + "---|" * len(row))
    for model in models:
        for which in ORBITS:
            gap = gaps(corpus, model, asked.networks, which)
            apart = f"{float(gap.mean()):.2g} of the distance between images"
            print(f"latents of {model.name}, orbit {which}: {apart}")


if __name__ == "__main__":
    main()
