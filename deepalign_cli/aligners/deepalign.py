"""Deep-Align as a method: one pass over each network, the product, Hungarian rounding, and refinement."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import torch

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.candidates import Prediction
from deepalign_cli.aligners.choice import Choice, Judge, choose, notes_on
from deepalign_cli.aligners.evidence import Dreaming, Evidence
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.aligners.refinements import REFINEMENTS, STEPS
from deepalign_cli.aligners.sketched import Similarity, Sketched, compared, is_clear, with_responses
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import UsageError
from deepalign_cli.models.on_device import CPU
from deepalign_cli.network.graph import Graph
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import network_name, resolve_network
from deepalign_cli.network.saved import load_network
from deepalign_cli.network.sketches import Sketches
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

AUTO = "auto"
_PREDICTING = 0.5  # of the work


def learned_aligner(
    network: str, refine: str, sketches: int, evidence: Evidence | None, dreaming: Dreaming | None = None,
    steps: int = STEPS, device: torch.device = CPU,
) -> LearnedAligner:  # fmt: skip
    """The aligner of a network that is named as `resolve_network` takes it.

    Raises:
        UsageError: there is no such network. CheckpointError: it cannot be had, or is no aligner.
    """
    name, path = network_name(network), resolve_network(network)
    aligner = LearnedAligner(
        load_network(path), name, sketches, refine, None, evidence, dreaming, steps, device
    )
    hashed = open_checkpoint(path).sha256()
    aligner.making = {
        "network.name": name, "network.sha256": hashed, "refine": refine, "sketches": sketches,
        **({"steps": steps} if refine != AUTO and REFINEMENTS[refine].slow else {}),
    }  # fmt: skip
    return aligner


class LearnedAligner:
    """A pretrained aligner as a method.

    `sketches` is how many random readings of the labelled axes are averaged, unless the first shows which
    units belong together. The reference's features are kept from one call to the next, so that N networks
    cost N passes. `details` of the alignment name the network, how many `sketches` were read (0 where
    nothing was predicted), the candidate that was kept (`kept`) and the reason (`why`), and remarks for the
    user (`notes`, a list).

    With `evidence`, a network to run and data, activations can decide beside the prediction. With a `judge`,
    which knows the loss (of this one pair; that of `evidence` makes one for any), `auto` keeps the candidate
    that it likes best. Without evidence, `auto` lets `dreaming` dream some where that may help. Networks are
    read on a `device`; the rest is done on the processor.

    Raises:
        UsageError: activations are asked for without evidence.
    """

    def __init__(
        self, network: DeepAlign, name: str = "", sketches: int = 8, refine: str = AUTO,
        judge: Judge | None = None, evidence: Evidence | None = None, dreaming: Dreaming | None = None,
        steps: int = STEPS, device: torch.device = CPU,
    ) -> None:  # fmt: skip
        if refine != AUTO and REFINEMENTS[refine].data and evidence is None:
            raise UsageError(f"--refine {refine} needs data.", "add --data mnist.npz.")
        self.network, self.name, self.sketches, self.refine = network, name, sketches, refine
        self.judge, self.evidence, self.dreaming, self.steps = judge, evidence, dreaming, steps
        self.device = device
        self.making: Mapping[str, object] = {}
        self._kept: tuple[Weights, Symmetry, list[int], Sketched] | None = None
        self._count = 0  # of the sketches that the last pair was read under

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started, self._count = time.perf_counter(), 0
        pair = Pair(symmetry, reference, moving)
        predict = partial(self.similarity, symmetry, reference, moving, rng, progress)
        prediction = Prediction(
            self.network, pair, predict, self.evidence, rng, progress, self.dreaming, self.steps
        )
        if self.refine == AUTO:
            judge = self.judge
            if judge is None and self.evidence is not None:
                judge = self.evidence.judge(symmetry, reference, moving)
            choice = choose(prediction, judge)
        else:
            asked = prediction.get(self.refine)
            notes = [] if self.evidence else notes_on(asked, prediction.before)
            choice = Choice(asked, asked.told or "as asked for", notes)
        kept = choice.kept
        details = {
            "network": self.name, "sketches": self._count, "refine": self.refine,
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
        """The mean over the sketches of every group's similarities, of large networks made when asked for.

        In networks with convolutions, how units respond to noise counts beside them.
        """
        seeds = torch.randint(2**31, (self.sketches,), generator=rng).tolist()
        own = self._reference(symmetry, reference, seeds)
        other = Sketched(self.network, own.graph, moving, own.sketches, self.device)
        stage = progress.part(_PREDICTING, "reading both networks", 2 * len(seeds))
        for stop in sorted({1, len(seeds)}):
            own.read(stop, stage)
            other.read(stop, stage)
            similarity = compared(own, other)
            if stop < len(seeds) and is_clear(similarity):
                break
        else:
            similarity = with_responses(own, other, similarity)
        self.network.to(CPU)  # where it refines
        self._count = other.count
        return similarity

    def _reference(self, symmetry: Symmetry, reference: Weights, seeds: list[int]) -> Sketched:
        """The reading of the reference that the last call has left, or a new one."""
        kept = self._kept
        if kept is None or kept[0] is not reference or kept[1] is not symmetry or kept[2] != seeds:
            sketches = Sketches(seeds, orthogonal=True)
            own = Sketched(self.network, Graph(symmetry), reference, sketches, self.device)
            self._kept = kept = reference, symmetry, seeds, own
        return kept[3]
