"""Deep-Align as a method: one pass over each network, the product, Hungarian rounding, and refinement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import cached_property, partial

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.activations import alone, as_prior, matched, with_similarity
from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.choice import NAMES, SEEING, Candidate, Choice, Judge, choose, notes_on
from deepalign_cli.aligners.correlations import Correlations
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.pair import Pair, scales_of
from deepalign_cli.aligners.prior import descend_with_prior, with_signs
from deepalign_cli.aligners.starts import planted_element
from deepalign_cli.aligners.weights import WeightMatching, descend
from deepalign_cli.assignment import assign
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import UsageError
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import network_name, resolve_network
from deepalign_cli.network.saved import load_network
from deepalign_cli.network.signs import canonical_signs
from deepalign_cli.network.similarity import directions
from deepalign_cli.network.universal import Features
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import widened

Similarity = Mapping[str, Float[Tensor, "_ _"]]
Directions = Mapping[str, Float[Tensor, "_ columns"]]
_UNITS_AT_ONCE = 2**17  # read under several sketches at once
_MOST_UNITS = 2**15  # whose directions are kept in full precision
_MOST_KEPT = 2**22  # similarities


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
        self._kept: tuple[Weights, Symmetry, list[int], Directions] | None = None

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        pair = Pair(symmetry, reference, moving)
        predict = partial(self.similarity, symmetry, reference, moving, rng)
        tried = _Candidates(self.network, pair, predict, self.evidence, rng)
        if self.refine is Refine.AUTO:
            judge = self.judge
            if judge is None and self.evidence is not None:
                judge = self.evidence.judge(symmetry, reference, moving)
            choice = choose(tried, judge)
        else:
            asked = tried.get(self.refine.value)
            notes = [] if self.evidence else notes_on(asked, tried.before)
            choice = Choice(asked, "as asked for", notes)
        kept = choice.kept
        details = {
            "network": self.name, "sketches": self.sketches, "refine": self.refine.value,
            "kept": kept.name, "why": choice.why, "notes": choice.notes, "slack": choice.slack,
        }  # fmt: skip
        return Alignment(
            symmetry, kept.element, "deepalign", time.perf_counter() - started,
            tried.before, kept.distance, (), details,
        )  # fmt: skip

    def similarity(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, rng: torch.Generator
    ) -> Similarity:
        """The mean over the sketches of every group's similarities, of large networks made when asked for."""
        seeds = torch.randint(2**31, (self.sketches,), generator=rng).tolist()
        graph = Graph(symmetry)
        own = self._reference_directions(symmetry, graph, reference, seeds)
        other = self._directions(graph, moving, seeds)
        small = sum(n * n for n in symmetry.sizes.values()) <= _MOST_KEPT
        return Lazy(own, lambda g: _product(own[g], other[g]) / len(seeds), keeps=small)

    def _reference_directions(
        self, symmetry: Symmetry, graph: Graph, reference: Weights, seeds: list[int]
    ) -> Directions:
        kept = self._kept
        if kept and kept[0] is reference and kept[1] is symmetry and kept[2] == seeds:
            return kept[3]
        self._kept = None
        found = self._directions(graph, reference, seeds)
        self._kept = (reference, symmetry, seeds, found)
        return found

    @torch.no_grad()
    def _directions(self, graph: Graph, weights: Weights, seeds: list[int]) -> Directions:
        """Every unit's directions under all sketches, side by side; of large networks in half precision."""
        if not graph.names:
            return {}
        network = _stack(graph, Acted(graph.symmetry, scales_of(graph.symmetry, weights), weights))
        self.network.to(network[graph.names[0]].dtype)
        sizes, block = graph.symmetry.sizes, None  # one block, since many smaller ones leave holes in memory
        units = sum(sizes.values())
        for start, features in self._features(graph, network, seeds, max(1, _UNITS_AT_ONCE // units)):
            end = 0
            for g, n in sizes.items():
                end, part = end + n, directions(features[g]).movedim(0, 1).flatten(1)
                if block is None:
                    dtype = torch.float16 if units > _MOST_UNITS else part.dtype
                    block = part.new_empty(units, len(seeds) * features[g].shape[2], dtype=dtype)
                first = start * features[g].shape[2]
                block[end - n : end, first : first + part.shape[1]] = part
        return (
            {} if block is None else dict(zip(sizes, torch.split(block, list(sizes.values())), strict=True))
        )

    def _features(
        self, graph: Graph, network: Weights, seeds: list[int], at_once: int
    ) -> Iterator[tuple[int, Features]]:
        """The features under some sketches at a time, and the number of the first."""
        signed = bool(graph.symmetry.turning)
        if not signed:
            read = self.network.reader(graph, network)
        for start in range(0, len(seeds), 1 if signed else at_once):
            if signed:
                read = self.network.reader(graph, _canonical(graph, network, seeds[start]))
            yield start, read(seeds[start : start + (1 if signed else at_once)])


class _Candidates:
    """The alignments that can be made of a prediction, each made when it is asked for."""

    def __init__(
        self, network: DeepAlign, pair: Pair, predict: Callable[[], Similarity], evidence: Evidence | None,
        rng: torch.Generator,
    ) -> None:  # fmt: skip
        self._network, self._pair, self._symmetry = network, pair, pair.symmetry
        self._predict, self._evidence, self._rng = predict, evidence, rng

    @cached_property
    def _similarity(self) -> Similarity:
        return self._predict()

    @cached_property
    def _start(self) -> Element:
        rounded = Element({g: assign(s) for g, s in self._similarity.items()})
        return with_signs(self._pair.problem, rounded)

    @cached_property
    def before(self) -> float:
        """The distance of the networks as they came."""
        return distance(self._symmetry, self._pair.reference, self._pair.moving)

    @property
    def names(self) -> tuple[str, ...]:
        return (*NAMES, *SEEING) if self._evidence else NAMES

    def get(self, name: str) -> Candidate:
        """The prediction itself (`none`), or refined by what `name` says."""
        if name == "weights":
            return self._with_weights()
        return Candidate(name, *self._pair.closest(self._made(name)))

    def planted(self) -> Candidate | None:
        """Weight matching from the element that makes one network nearly the other, if there is one."""
        planted = planted_element(self._pair.problem)
        if planted is None:
            return None
        element = descend(self._pair.problem, planted, self._rng)[0]
        return Candidate("weights", *self._pair.closest(element))

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
            refined = self._network.refine(graph, a, b, self._similarity)
            return Element({g: assign(x) for g, x in refined})

    def _with_weights_and(self, found: Correlations) -> Element:
        """Weight matching with what was found as a prior."""
        plain, flipping = as_prior(self._symmetry, found)
        order, start = list(self._symmetry.sizes), alone(self._symmetry, found)
        return descend_with_prior(self._pair.problem, plain, start, order, flipping=flipping)

    def _found(self) -> Correlations:
        assert self._evidence is not None
        return self._evidence.correlations(self._symmetry, self._pair.reference, self._pair.moving)


def _stack(graph: Graph, weights: Weights) -> Mapping[str, Float[Tensor, "1 ..."]]:
    """What the network reads of one network, in one type, with a batch axis."""
    dtypes = (widened(weights[name]).dtype for name in graph.names)
    dtype = max(dtypes, key=lambda d: d.itemsize, default=torch.float32)
    return Lazy(graph.names, lambda name: widened(weights[name]).to(dtype).unsqueeze(0))


def _canonical(
    graph: Graph, network: Mapping[str, Float[Tensor, "1 ..."]], seed: int
) -> Mapping[str, Float[Tensor, "1 ..."]]:
    """The network under the canonical signs of a sketch."""
    one = Lazy(network, lambda name: network[name][0])
    view = Acted(graph.symmetry, canonical_signs(graph, one, seed), one)
    return Lazy(network, lambda name: view[name].unsqueeze(0))


def _product(a: Float[Tensor, "n columns"], b: Float[Tensor, "n columns"]) -> Float[Tensor, "n n"]:
    """The product a b^T, in float32 at least."""
    return widened(a) @ widened(b).T
