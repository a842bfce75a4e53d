"""Deep-Align as a method: one pass over each network, the product, Hungarian rounding, and refinement."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.candidates import Prediction, Similarity
from deepalign_cli.aligners.choice import Choice, Judge, choose, notes_on
from deepalign_cli.aligners.evidence import Dreaming, Evidence
from deepalign_cli.aligners.pair import Pair, scales_of
from deepalign_cli.aligners.refinements import REFINEMENTS
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import UsageError
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import network_name, resolve_network
from deepalign_cli.network.saved import load_network
from deepalign_cli.network.signs import canonical_signs
from deepalign_cli.network.similarity import directions
from deepalign_cli.network.stacked import stacked
from deepalign_cli.network.universal import Features
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import widened

Directions = Mapping[str, Float[Tensor, "_ columns"]]
AUTO = "auto"
_UNITS_AT_ONCE = 2**17  # read under several sketches at once
_MOST_UNITS = 2**15  # whose directions are kept in full precision
_MOST_KEPT = 2**22  # similarities
_PREDICTING = 0.5  # of the work


def learned_aligner(
    network: str, refine: str, sketches: int, evidence: Evidence | None, dreaming: Dreaming | None = None
) -> LearnedAligner:
    """The aligner of a network that is named as `resolve_network` takes it.

    Raises:
        UsageError: there is no such network. CheckpointError: it cannot be had, or is no aligner.
    """
    name, path = network_name(network), resolve_network(network)
    aligner = LearnedAligner(load_network(path), name, sketches, refine, None, evidence, dreaming)
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
    that it likes best. Without evidence, `auto` lets `dreaming` dream some where that may help.

    Raises:
        UsageError: activations are asked for without evidence.
    """

    def __init__(
        self, network: DeepAlign, name: str = "", sketches: int = 8, refine: str = AUTO,
        judge: Judge | None = None, evidence: Evidence | None = None, dreaming: Dreaming | None = None,
    ) -> None:  # fmt: skip
        if refine != AUTO and REFINEMENTS[refine].data and evidence is None:
            raise UsageError(f"--refine {refine} needs data.", "add --data mnist.npz.")
        self.network, self.name, self.sketches, self.refine = network, name, sketches, refine
        self.judge, self.evidence, self.dreaming = judge, evidence, dreaming
        self.making: Mapping[str, object] = {}
        self._kept: tuple[Weights, Symmetry, list[int], Directions] | None = None

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        pair = Pair(symmetry, reference, moving)
        predict = partial(self.similarity, symmetry, reference, moving, rng, progress)
        prediction = Prediction(self.network, pair, predict, self.evidence, rng, progress, self.dreaming)
        if self.refine == AUTO:
            judge = self.judge
            if judge is None and self.evidence is not None:
                judge = self.evidence.judge(symmetry, reference, moving)
            choice = choose(prediction, judge)
        else:
            asked = prediction.get(self.refine)
            notes = [] if self.evidence else notes_on(asked, prediction.before)
            choice = Choice(asked, "as asked for", notes)
        kept = choice.kept
        details = {
            "network": self.name, "sketches": self.sketches, "refine": self.refine,
            "kept": kept.name, "why": choice.why, "notes": choice.notes, "slack": choice.slack,
        }  # fmt: skip
        return Alignment(
            symmetry, kept.element, "deepalign", time.perf_counter() - started,
            prediction.before, kept.distance, (), details,
        )  # fmt: skip

    def similarity(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Similarity:  # fmt: skip
        """The mean over the sketches of every group's similarities, of large networks made when asked for."""
        seeds = torch.randint(2**31, (self.sketches,), generator=rng).tolist()
        graph = Graph(symmetry)
        stage = progress.part(_PREDICTING, "reading both networks", 2 * len(seeds))
        own = self._reference_directions(symmetry, graph, reference, seeds, stage)
        other = self._directions(graph, moving, seeds, stage)
        small = sum(n * n for n in symmetry.sizes.values()) <= _MOST_KEPT
        return Lazy(own, lambda g: _product(own[g], other[g]) / len(seeds), keeps=small)

    def _reference_directions(
        self, symmetry: Symmetry, graph: Graph, reference: Weights, seeds: list[int], progress: Progress
    ) -> Directions:
        kept = self._kept
        if kept and kept[0] is reference and kept[1] is symmetry and kept[2] == seeds:
            return kept[3]
        self._kept = None
        own = self._directions(graph, reference, seeds, progress)
        self._kept = (reference, symmetry, seeds, own)
        return own

    @torch.no_grad()
    def _directions(self, graph: Graph, weights: Weights, seeds: list[int], progress: Progress) -> Directions:
        """Every unit's directions under all sketches, side by side; of large networks in half precision."""
        if not graph.names:
            return {}
        network = stacked(graph, Acted(graph.symmetry, scales_of(graph.symmetry, weights), weights))
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
            progress(features[next(iter(sizes))].shape[0])
            del features
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
