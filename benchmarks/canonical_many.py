"""Many SIRENs all to all: the time of canonical places, beside that of matching every pair.

    deepalign zoo pretrained/scalegmn-siren-mnist-v1.zoo.toml --data DATA --out ZOO
    python benchmarks/canonical_many.py ZOO/FAMILY.safetensors [--networks 64 --pairs 40]

Canonical places are found for every network once; an alignment of two is then the product of two elements.
Some of the pairs are matched by weights, and their time stands for that of all. By signs and permutations.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import torch

from deepalign_cli.aligners.alignment import distance
from deepalign_cli.aligners.anchored import AnchorMatching
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.train.known import traced_spec
from deepalign_cli.train.zoo_files import load_family


def main() -> None:
    """Print the two times, their ratio, and the mean distances that both leave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", type=Path)
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=40)
    asked = parser.parse_args()
    family = load_family(asked.family)
    networks = [family.network(i) for i in range(asked.networks)]
    spec = replace(traced_spec(family.design), phases={})
    symmetry = Symmetry(spec, {name: tuple(w.shape) for name, w in networks[0].items()})
    aligner = AnchorMatching()
    started = time.perf_counter()
    places = [aligner.carried(symmetry, w, aligner.anchor(symmetry, w)) for w in networks]
    pairs = list(combinations(range(len(networks)), 2))
    elements = {(i, j): places[i].inverse() @ places[j] for i, j in pairs}
    canonical = time.perf_counter() - started
    chosen = pairs[:: max(1, len(pairs) // asked.pairs)]
    started = time.perf_counter()
    matched = {
        (i, j): WeightMatching()(symmetry, networks[i], networks[j], rng=torch.Generator().manual_seed(0))
        for i, j in chosen
    }
    pairwise = (time.perf_counter() - started) / len(chosen) * len(pairs)
    print(f"{len(networks)} networks, {len(pairs)} pairs, of which {len(chosen)} were matched by weights")
    print(f"canonical {canonical:.1f} s, pairwise {pairwise:.1f} s, ratio {canonical / pairwise:.3f}")
    for name, g in (("none", None), ("canonical", elements), ("weights", None)):
        apart = [
            matched[i, j].distance_after
            if name == "weights"
            else distance(symmetry, networks[i], networks[j], g[i, j] if g else None)
            for i, j in chosen
        ]
        print(f"mean distance {name}: {sum(apart) / len(apart):.3f}")


if __name__ == "__main__":
    main()
