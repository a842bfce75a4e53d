"""Does an autoencoder of weights tell its own networks from others, by their errors or by their sizes?

    deepalign zoo pretrained/scalegmn-siren-mnist-v1.zoo.toml --data DATA --out ZOO
    python benchmarks/canonical_kinds.py --autoencoder scalegmn-siren-mnist-v1 --zoo ZOO [OTHER ...]

For the networks of each zoo, and for what is made of the first zoo's: the error of the weights that the
autoencoder writes, relative to the weights' size, and how many times as large or small as in the training
networks the size of the network's oddest tensor is, both as smallest, median and largest.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import distance
from deepalign_cli.aligners.anchored import AnchorMatching
from deepalign_cli.models.designs import Design
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.unrounded import unrounded
from deepalign_cli.train.known import traced_spec
from deepalign_cli.train.zoo_files import load_family

Network = dict[str, Tensor]
MOST = 24  # networks a row


def measured(aligner: AnchorMatching, symmetry: Symmetry, network: Network) -> tuple[float, float]:
    """The error of the written weights, and the oddest tensor's ratio of sizes, above one."""
    anchor = aligner.anchor(symmetry, network)
    element = unrounded(symmetry, aligner.carried(symmetry, network, anchor), network)
    size = math.sqrt(sum(float(network[n].double().square().sum()) for n in anchor))
    ratio = aligner.model(symmetry).oddest(symmetry, symmetry.apply(element, network))[1]
    return distance(symmetry, anchor, network, element) / size, math.exp(abs(math.log(ratio)))


def folded(network: Network, w0: float) -> Network:
    """A SIREN whose sines have no w0: it is in the weights of all layers but the last."""
    last = max(network)[: len("layers.0")]
    return {n: w if n.startswith(last) else w * w0 for n, w in network.items()}


def kinds(design: Design, own: Sequence[Network]) -> Iterator[tuple[str, list[Network]]]:
    """What is made of a zoo's networks."""
    rng = torch.Generator().manual_seed(1)
    yield "as initialized", [design.init(rng) for _ in own]
    noise = [{n: torch.randn(w.shape, generator=rng) for n, w in one.items()} for one in own]
    yield "noise of variance one", noise
    for factor in (0.1, 0.5, 2, 10):
        yield f"{factor} times the weights", [{n: w * factor for n, w in one.items()} for one in own]
    if hasattr(design, "w0"):
        yield "w0 in the weights", [folded(one, design.w0) for one in own]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--autoencoder", required=True)
    parser.add_argument("--zoo", type=Path, nargs="+", required=True)
    asked = parser.parse_args()
    aligner, rows = AnchorMatching(asked.autoencoder), list[tuple[str, list[Network]]]()
    for zoo in asked.zoo:
        family = load_family(min(zoo.glob("*.safetensors")))
        networks = [family.network(i) for i in range(min(MOST, len(family.member)))]
        rows.append((zoo.name, networks))
        if zoo == asked.zoo[0]:
            design, own = family.design, networks
    symmetry = Symmetry(traced_spec(design), {n: tuple(w.shape) for n, w in own[0].items()})
    print("| networks | error of the weights | oddest size |\n|---|---|---|")
    for name, networks in [*rows, *kinds(design, own)]:
        found = torch.tensor([measured(aligner, symmetry, one) for one in networks])
        low, middle, high = torch.quantile(found, torch.tensor([0.0, 0.5, 1.0]), dim=0).tolist()
        cells = [f"{b:.2f} ({a:.2f} to {c:.2f})" for a, b, c in zip(low, middle, high, strict=True)]
        print("|", " | ".join([name, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
