"""Deep-Align as a method: one pass over each network, the product, Hungarian rounding, and refinement."""

from __future__ import annotations

import time
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.align.alignment import Alignment, distance, widened
from deepalign_cli.align.canonical import canonical_scales
from deepalign_cli.align.choice import Candidate, Judge, Prediction, choose
from deepalign_cli.align.gains import Gains
from deepalign_cli.align.prior import descend_with_prior, with_signs
from deepalign_cli.align.view import Acted
from deepalign_cli.align.weights import descend
from deepalign_cli.assignment import assign
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.signs import canonical_signs
from deepalign_cli.network.similarity import directions
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Kind
from deepalign_cli.symmetry.symmetry import Symmetry, Weights


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
    network, the candidate that was kept (`kept`) and the reason (`why`), and remarks for the user
    (`notes`, a list). With a `judge`, which knows the data, `auto` keeps the candidate that it likes best.
    """

    def __init__(
        self, network: DeepAlign, name: str = "", sketches: int = 8, refine: Refine = Refine.AUTO,
        judge: Judge | None = None,
    ) -> None:  # fmt: skip
        self.network, self.name, self.sketches, self.refine = network, name, sketches, refine
        self.judge = judge
        self._kept: tuple[Weights, Symmetry, list[int], dict[str, Tensor]] | None = None

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator
    ) -> Alignment:
        started = time.perf_counter()
        similar = self.similarity(symmetry, reference, moving, rng)
        perms = Element({g: assign(s) for g, s in similar.items()})
        prediction = Prediction(similar, perms)
        tried = _Candidates(symmetry, reference, moving, prediction, rng)
        if self.refine is Refine.AUTO:
            kept, why, notes = choose(prediction, tried, self.judge)
        else:
            kept, why, notes = tried.get(self.refine.value), "as asked for", []
        details = {
            "network": self.name, "sketches": self.sketches, "refine": self.refine.value,
            "kept": kept.name, "why": why, "notes": notes, "agreement": prediction.agreement,
        }  # fmt: skip
        return Alignment(
            kept.element, "deepalign", time.perf_counter() - started,
            distance(symmetry, reference, moving), kept.distance, (), details,
        )  # fmt: skip

    def similarity(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, rng: torch.Generator
    ) -> dict[str, Float[Tensor, "_ _"]]:
        """The mean over the sketches of every group's similarities."""
        seeds = torch.randint(2**31, (self.sketches,), generator=rng).tolist()
        graph = Graph(symmetry)
        own = self._reference_directions(symmetry, graph, reference, seeds)
        other = self._directions(graph, moving, seeds)
        return {g: mean_product(own[g], other[g]) for g in own}

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
    ) -> dict[str, Float[Tensor, "sketches _ out"]]:
        symmetry = graph.symmetry
        if Kind.SCALE in symmetry.kinds.values():
            weights = Acted(symmetry, canonical_scales(symmetry, weights), weights)
        read = {name: widened(weights[name]) for name in graph.names}
        if not read:
            return {}
        dtype = max((w.dtype for w in read.values()), key=lambda d: d.itemsize)
        read = {name: w.to(dtype) for name, w in read.items()}
        if Kind.SIGN in symmetry.kinds.values():
            stack = _each_canonical(graph, read, seeds)
        else:
            stack = {name: w.unsqueeze(0) for name, w in read.items()}
        with torch.no_grad():
            features = self.network.to(dtype).encode(graph, stack, seeds)
        return {g: directions(f) for g, f in features.items()}


class _Candidates:
    """The alignments that can be made of a prediction, each made when it is asked for."""

    def __init__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, prediction: Prediction,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        self._symmetry, self._pair = symmetry, (reference, moving)
        self._prediction, self._rng = prediction, rng
        scaled = Kind.SCALE in symmetry.kinds.values()
        self._own = canonical_scales(symmetry, reference) if scaled else Element({})
        self._other = canonical_scales(symmetry, moving) if scaled else Element({})
        self._problem = Gains(
            symmetry, Acted(symmetry, self._own, reference), Acted(symmetry, self._other, moving)
        )

    def get(self, name: str) -> Candidate:
        """The prediction itself (`none`), or refined by `prior` or `weights`."""
        order = list(self._symmetry.sizes)
        start = with_signs(self._problem, self._prediction.element)
        if name == "prior":
            start = descend_with_prior(self._problem, self._prediction.similarity, start, order)
        elif name == "weights":
            start = descend(self._problem, start, self._rng, order)[0]
        return self._closest(name, start)

    def _closest(self, name: str, found: Element) -> Candidate:
        """Between canonical scales or, where that is closer, as the networks came."""
        elements = [self._own.inverse() @ found @ self._other]
        if self._own.scale:
            elements.append(found)
        apart = [distance(self._symmetry, *self._pair, element) for element in elements]
        best = min(range(len(elements)), key=apart.__getitem__)
        return Candidate(name, elements[best], apart[best])


def _each_canonical(
    graph: Graph, weights: Weights, seeds: list[int]
) -> dict[str, Float[Tensor, "sketches ..."]]:
    """The network under the canonical signs of every sketch."""
    signs = [canonical_signs(graph, weights, seed) for seed in seeds]
    return {
        name: torch.stack([graph.symmetry.act(g, name, w) for g in signs]) for name, w in weights.items()
    }


def mean_product(
    a: Float[Tensor, "sketches n out"], b: Float[Tensor, "sketches n out"]
) -> Float[Tensor, "n n"]:
    """The mean over the sketches of a b^T, as one product."""
    left, right = (x.movedim(0, 1).flatten(1) for x in (a, b))
    return left @ right.T / len(a)
