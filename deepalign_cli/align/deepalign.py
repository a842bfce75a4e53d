"""Deep-Align as a method: one pass over each network, the product, and Hungarian rounding."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.align.alignment import Alignment, distance, widened
from deepalign_cli.assignment import assign
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.similarity import directions
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

Similarity = Mapping[str, Float[Tensor, "n n"]]


class Refine(StrEnum):
    """What is done to a prediction before it is used."""

    AUTO = "auto"
    NONE = "none"
    WEIGHTS = "weights"
    PRIOR = "prior"


class LearnedAligner:
    """A pretrained aligner as a method.

    `sketches` is how many random readings of the labelled axes are averaged. The reference's features are
    kept from one call to the next, so that N networks cost N passes. `details` of the alignment name the
    network, the candidate that was kept and why (`why`), and remarks for the user (`notes`, a list).
    """

    def __init__(
        self, network: DeepAlign, name: str = "", sketches: int = 8, refine: Refine = Refine.AUTO
    ) -> None:
        self.network, self.name, self.sketches, self.refine = network, name, sketches, refine
        self._kept: tuple[Weights, Symmetry, list[int], dict[str, Tensor]] | None = None

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator
    ) -> Alignment:
        started = time.perf_counter()
        similar = self.similarity(symmetry, reference, moving, rng)
        element = Element({g: assign(s) for g, s in similar.items()})
        details = {"network": self.name, "sketches": self.sketches, "kept": "none", "why": "", "notes": []}
        return Alignment(
            element, "deepalign", time.perf_counter() - started,
            distance(symmetry, reference, moving), distance(symmetry, reference, moving, element),
            (), details,
        )  # fmt: skip

    def similarity(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, rng: torch.Generator
    ) -> dict[str, Float[Tensor, "n n"]]:
        """The mean over the sketches of every group's similarities."""
        seeds = torch.randint(2**31, (self.sketches,), generator=rng).tolist()
        graph = Graph(symmetry)
        own = self._reference_directions(symmetry, graph, reference, seeds)
        other = self._directions(graph, moving, seeds)
        return {g: _mean_product(own[g], other[g]) for g in own}

    def _reference_directions(
        self, symmetry: Symmetry, graph: Graph, reference: Weights, seeds: list[int]
    ) -> dict[str, Tensor]:
        kept = self._kept
        if kept and kept[0] is reference and kept[1] is symmetry and kept[2] == seeds:
            return kept[3]
        found = self._directions(graph, reference, seeds)
        self._kept = (reference, symmetry, seeds, found)
        return found

    def _directions(
        self, graph: Graph, weights: Weights, seeds: list[int]
    ) -> dict[str, Float[Tensor, "sketches n out"]]:
        stack = {name: widened(weights[name]).unsqueeze(0) for name in graph.names}
        dtype = next(iter(stack.values())).dtype
        with torch.no_grad():
            features = self.network.to(dtype).encode(graph, stack, seeds)
        return {g: directions(f) for g, f in features.items()}


def _mean_product(
    a: Float[Tensor, "sketches n out"], b: Float[Tensor, "sketches n out"]
) -> Float[Tensor, "n n"]:
    """The mean over the sketches of a b^T, as one product."""
    flat = (x.movedim(0, 1).flatten(1) for x in (a, b))
    left, right = flat
    return left @ right.T / len(a)
