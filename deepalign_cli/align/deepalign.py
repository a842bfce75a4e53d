"""Deep-Align as a method: one pass over each network, the product, Hungarian rounding, and refinement."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.align.alignment import Alignment, distance, widened
from deepalign_cli.align.canonical import canonical_scales
from deepalign_cli.align.choice import Candidate, Choice, Judge, choose
from deepalign_cli.align.gains import Gains
from deepalign_cli.align.prior import descend_with_prior, with_signs
from deepalign_cli.align.view import Acted
from deepalign_cli.align.weights import WeightMatching, descend
from deepalign_cli.assignment import assign
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.signs import canonical_signs
from deepalign_cli.network.similarity import directions
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Kind
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

Similarity = Mapping[str, Float[Tensor, "_ _"]]


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
        tried = _Candidates(self.network, symmetry, (reference, moving), similar, rng)
        if self.refine is Refine.AUTO:
            choice = choose(tried, self.judge)
        else:
            choice = Choice(tried.get(self.refine.value), "as asked for")
        kept = choice.kept
        details = {
            "network": self.name, "sketches": self.sketches, "refine": self.refine.value,
            "kept": kept.name, "why": choice.why, "notes": choice.notes, "slack": choice.slack,
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
        stack = _stack(graph, Acted(symmetry, _scales(symmetry, weights), weights))
        if not stack:
            return {}
        if Kind.SIGN in symmetry.kinds.values():
            stack = _each_canonical(graph, stack, seeds)
        with torch.no_grad():
            features = self.network.to(next(iter(stack.values())).dtype).encode(graph, stack, seeds)
        return {g: directions(f) for g, f in features.items()}


class _Candidates:
    """The alignments that can be made of a prediction, each made when it is asked for."""

    def __init__(
        self, network: DeepAlign, symmetry: Symmetry, pair: tuple[Weights, Weights],
        similarity: Similarity, rng: torch.Generator,
    ) -> None:  # fmt: skip
        self._network, self._symmetry, self._pair = network, symmetry, pair
        self._similarity, self._rng = similarity, rng
        self._own, self._other = (_scales(symmetry, weights) for weights in pair)
        self._views = Acted(symmetry, self._own, pair[0]), Acted(symmetry, self._other, pair[1])
        self._problem = Gains(symmetry, *self._views)
        rounded = Element({g: assign(s) for g, s in similarity.items()})
        self._start = with_signs(self._problem, rounded)

    def get(self, name: str) -> Candidate:
        """The prediction itself (`none`), or refined by `prior` or `weights`."""
        if name == "prior":
            return self._closest(name, self._with_prior())
        if name == "weights":
            found = descend(self._problem, self._start, self._rng, list(self._symmetry.sizes))[0]
            alone = WeightMatching()(self._symmetry, *self._pair, rng=self._rng)
            other = Candidate(name, alone.element, alone.distance_after)
            return min(self._closest(name, found), other, key=lambda c: c.distance)
        return self._closest(name, self._start)

    def slack(self) -> float:
        """The share of the squared distance that one step of weight matching in each group removes."""
        problem = self._problem
        rise = sum(problem.best_step(group, self._start).rise for group in self._symmetry.sizes)
        left = problem.energy - 2 * problem.objective(self._start)
        return 2 * rise / left if left > 1e-12 * problem.energy else 0.0

    def _with_prior(self) -> Element:
        """Refined by the network's own refiner, or by a descent in which the prediction is a prior.

        The refiner compares weights as they are, so that it is of no use where signs are free.
        """
        if self._network.refiner is None or Kind.SIGN in self._symmetry.kinds.values():
            order = list(self._symmetry.sizes)
            return descend_with_prior(self._problem, self._similarity, self._start, order)
        graph = Graph(self._symmetry)
        a, b = (_stack(graph, view) for view in self._views)
        with torch.no_grad():
            logits = self._network.refine(graph, a, b, {g: s[None] for g, s in self._similarity.items()})
        return Element({g: assign(x[0]) for g, x in logits.items()})

    def _closest(self, name: str, found: Element) -> Candidate:
        """Between canonical scales or, where that is closer, as the networks came."""
        elements = [self._own.inverse() @ found @ self._other]
        if self._own.scale:
            elements.append(found)
        apart = [distance(self._symmetry, *self._pair, element) for element in elements]
        best = min(range(len(elements)), key=apart.__getitem__)
        return Candidate(name, elements[best], apart[best])


def _scales(symmetry: Symmetry, weights: Weights) -> Element:
    """The element that brings a network to canonical scales; an empty one where no group has scales."""
    return canonical_scales(symmetry, weights) if Kind.SCALE in symmetry.kinds.values() else Element({})


def _stack(graph: Graph, weights: Weights) -> dict[str, Float[Tensor, "1 ..."]]:
    """What the network reads of one network, in one type, with a batch axis."""
    read = {name: widened(weights[name]) for name in graph.names}
    dtype = max((w.dtype for w in read.values()), key=lambda d: d.itemsize, default=torch.float32)
    return {name: w.to(dtype).unsqueeze(0) for name, w in read.items()}


def _each_canonical(
    graph: Graph, stack: Mapping[str, Float[Tensor, "1 ..."]], seeds: list[int]
) -> dict[str, Float[Tensor, "sketches ..."]]:
    """The network under the canonical signs of every sketch."""
    one = {name: w[0] for name, w in stack.items()}
    signs = [canonical_signs(graph, one, seed) for seed in seeds]
    return {name: torch.stack([graph.symmetry.act(g, name, w) for g in signs]) for name, w in one.items()}


def mean_product(
    a: Float[Tensor, "sketches n out"], b: Float[Tensor, "sketches n out"]
) -> Float[Tensor, "n n"]:
    """The mean over the sketches of a b^T, as one product."""
    left, right = (x.movedim(0, 1).flatten(1) for x in (a, b))
    return left @ right.T / len(a)
