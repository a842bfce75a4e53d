"""Deep-Align as a method: one pass over each network, the product, Hungarian rounding, and refinement."""

from __future__ import annotations

import time
from collections.abc import Mapping
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.activations import alone, as_prior, matched, with_similarity
from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.choice import NAMES, SEEING, Candidate, Choice, Judge, choose
from deepalign_cli.aligners.correlations import Correlations
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.pair import Pair, scales_of
from deepalign_cli.aligners.prior import descend_with_prior, with_signs
from deepalign_cli.aligners.weights import WeightMatching, descend
from deepalign_cli.assignment import assign
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import UsageError
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import network_name, resolve_network
from deepalign_cli.network.saved import load_network
from deepalign_cli.network.signs import canonical_signs
from deepalign_cli.network.similarity import directions
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import widened

Similarity = Mapping[str, Float[Tensor, "_ _"]]


class Refine(StrEnum):
    """What is done to a prediction before it is used."""

    AUTO = "auto"
    NONE = "none"
    WEIGHTS = "weights"
    PRIOR = "prior"
    ACTIVATIONS = "activations"


def learned_aligner(network: str, refine: str, sketches: int, evidence: Evidence | None) -> LearnedAligner:
    """The aligner of a network that is named as `resolve_network` takes it.

    Raises:
        UsageError: there is no such network. CheckpointError: it cannot be had, or is no aligner.
    """
    name, path = network_name(network), resolve_network(network)
    aligner = LearnedAligner(load_network(path), name, sketches, Refine(refine), evidence=evidence)
    hashed = open_checkpoint(path).sha256()
    aligner.making = {
        "network.name": name, "network.sha256": hashed, "refine": refine, "sketches": sketches,
    }  # fmt: skip
    return aligner


class LearnedAligner:
    """A pretrained aligner as a method.

    `sketches` is how many random readings of the labelled axes are averaged. The reference's features are
    kept from one call to the next, so that N networks cost N passes. `details` of the alignment name the
    network, the candidate that was kept (`kept`) and the reason (`why`), and remarks for the user
    (`notes`, a list).

    With `evidence`, a network to run and data, activations can decide beside the prediction. With a `judge`,
    which knows the loss (of this one pair; that of `evidence` makes one for any), `auto` keeps the candidate
    that it likes best.

    Raises:
        UsageError: activations are asked for without evidence.
    """

    def __init__(
        self, network: DeepAlign, name: str = "", sketches: int = 8, refine: Refine = Refine.AUTO,
        judge: Judge | None = None, evidence: Evidence | None = None,
    ) -> None:  # fmt: skip
        if refine is Refine.ACTIVATIONS and evidence is None:
            raise UsageError("refining by activations looks at data.", "give --data.")
        self.network, self.name, self.sketches, self.refine = network, name, sketches, refine
        self.judge, self.evidence = judge, evidence
        self.making: Mapping[str, object] = {}
        self._kept: tuple[Weights, Symmetry, list[int], dict[str, Tensor]] | None = None

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        similar = self.similarity(symmetry, reference, moving, rng)
        pair = Pair(symmetry, reference, moving)
        tried = _Candidates(self.network, pair, similar, self.evidence, rng)
        if self.refine is Refine.AUTO:
            judge = self.judge
            if judge is None and self.evidence is not None:
                judge = self.evidence.judge(symmetry, reference, moving)
            choice = choose(tried, judge)
        else:
            choice = Choice(tried.get(self.refine.value), "as asked for")
        kept = choice.kept
        details = {
            "network": self.name, "sketches": self.sketches, "refine": self.refine.value,
            "kept": kept.name, "why": choice.why, "notes": choice.notes, "slack": choice.slack,
        }  # fmt: skip
        return Alignment(
            symmetry, kept.element, "deepalign", time.perf_counter() - started,
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
        stack = _stack(graph, Acted(symmetry, scales_of(symmetry, weights), weights))
        if not stack:
            return {}
        if symmetry.turning:
            stack = _each_canonical(graph, stack, seeds)
        with torch.no_grad():
            features = self.network.to(next(iter(stack.values())).dtype).encode(graph, stack, seeds)
        return {g: directions(f) for g, f in features.items()}


class _Candidates:
    """The alignments that can be made of a prediction, each made when it is asked for."""

    def __init__(
        self, network: DeepAlign, pair: Pair, similarity: Similarity, evidence: Evidence | None,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        self._network, self._pair, self._symmetry = network, pair, pair.symmetry
        self._similarity, self._evidence, self._rng = similarity, evidence, rng
        rounded = Element({g: assign(s) for g, s in similarity.items()})
        self._start = with_signs(pair.problem, rounded)

    @property
    def names(self) -> tuple[str, ...]:
        return (*NAMES, *SEEING) if self._evidence else NAMES

    def get(self, name: str) -> Candidate:
        """The prediction itself (`none`), or refined by what `name` says."""
        if name == "weights":
            return self._with_weights()
        return Candidate(name, *self._pair.closest(self._made(name)))

    def slack(self) -> float:
        """The share of the squared distance that one step of weight matching in each group removes."""
        problem = self._pair.problem
        rise = sum(problem.best_step(group, self._start).rise for group in self._symmetry.sizes)
        left = problem.energy - 2 * problem.objective(self._start)
        return 2 * rise / left if left > 1e-12 * problem.energy else 0.0

    def _made(self, name: str) -> Element:
        """An element between canonical scales."""
        if name == "prior":
            return self._with_prior()
        kind, _, is_alone = name.partition(" ")
        if kind not in SEEING:
            return self._start
        found = self._found() if is_alone else with_similarity(self._found(), self._similarity)
        return matched(self._pair, found) if kind == "activations" else self._with_weights_and(found)

    def _with_weights(self) -> Candidate:
        """Refined by weight matching, or weight matching alone where that is closer."""
        order = list(self._symmetry.sizes)
        found = descend(self._pair.problem, self._start, self._rng, order)[0]
        other = WeightMatching()(self._symmetry, self._pair.reference, self._pair.moving, rng=self._rng)
        candidates = [
            Candidate("weights", *self._pair.closest(found)),
            Candidate("weights", other.element, other.distance_after),
        ]
        return min(candidates, key=lambda c: c.distance)

    def _with_prior(self) -> Element:
        """Refined by the network's own refiner, or by a descent in which the prediction is a prior.

        The refiner compares weights as they are, so that it is of no use where signs are free.
        """
        if self._network.refiner is None or self._symmetry.turning:
            order = list(self._symmetry.sizes)
            return descend_with_prior(self._pair.problem, self._similarity, self._start, order)
        graph = Graph(self._symmetry)
        if not graph.edges:  # nothing moves
            return self._start
        a, b = (_stack(graph, view) for view in self._pair.views)
        with torch.no_grad():
            logits = self._network.refine(graph, a, b, {g: s[None] for g, s in self._similarity.items()})
        return Element({g: assign(x[0]) for g, x in logits.items()})

    def _with_weights_and(self, found: Correlations) -> Element:
        """Weight matching with what was found as a prior."""
        plain, flipping = as_prior(self._symmetry, found)
        order, start = list(self._symmetry.sizes), alone(self._symmetry, found)
        return descend_with_prior(self._pair.problem, plain, start, order, flipping=flipping)

    def _found(self) -> Correlations:
        assert self._evidence is not None
        return self._evidence.correlations(self._symmetry, self._pair.reference, self._pair.moving)


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
