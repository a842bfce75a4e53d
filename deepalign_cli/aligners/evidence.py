"""A network that can be run and what to run it on: what methods that use data are given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float64, Int64
from torch import Tensor

from deepalign_cli.aligners.choice import Judge
from deepalign_cli.aligners.correlations import Correlations, correlations
from deepalign_cli.aligners.effects import effects
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

_KEPT = 8  # pairs: their correlations take n^2 numbers a group

Judging = Callable[[Symmetry, Weights, Weights], Judge]


@runtime_checkable
class TrainingLoss(Protocol):
    """The mean loss of a network on some training examples, given by their places; it can be differentiated.

    BatchNorm uses the batch's own statistics, as in training. The length is how many examples there are.
    """

    def __len__(self) -> int: ...

    def __call__(self, weights: Weights, places: Int64[Tensor, " batch"]) -> Float64[Tensor, ""]: ...


class Evidence:
    """A network to run and data to run it on; what was found of the last pairs is kept for other methods.

    A pair is known by its very mappings, whose tensors must not change in between.

    `judging` makes, for a pair, the function that tells the midpoint's loss, and `loss` is that of any
    network on training examples, where a loss is known. `examples` counts those in the batches.
    """

    def __init__(
        self, run: Run, batches: Batches, judging: Judging | None = None, loss: TrainingLoss | None = None,
        examples: int = 1,
    ) -> None:  # fmt: skip
        self.run, self.batches, self._judging, self.loss = run, batches, judging, loss
        self._examples = examples
        self._kept: deque[tuple[Symmetry, Weights, Weights, Correlations]] = deque(maxlen=_KEPT)

    def correlations(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, progress: Progress = SILENT
    ) -> Correlations:
        """The correlations of a pair's units.

        Raises:
            DataError, NonFiniteError: as `correlations`.
        """
        for kept in self._kept:
            if kept[0] is symmetry and kept[1] is reference and kept[2] is moving:
                return kept[3]
        stage = progress.part(1.0, "running both networks", self._examples)
        correlated = correlations(symmetry, self.run, reference, moving, self.batches, stage)
        self._kept.append((symmetry, reference, moving, correlated))
        return correlated

    def effects(self, symmetry: Symmetry, reference: Weights, moving: Weights) -> Correlations:
        """The correlations of the effects of a pair's units on the outputs; computed each time."""
        return effects(symmetry, self.run, reference, moving, self.batches)

    def judge(self, symmetry: Symmetry, reference: Weights, moving: Weights) -> Judge | None:
        """What tells the loss midway between the reference and the moving network under an element."""
        return self._judging(symmetry, reference, moving) if self._judging else None


@dataclass(frozen=True)
class Dreamt:
    """Evidence whose inputs were dreamed; `says` of what.

    `shows` tells whether outputs on them show which of two alignments is better, `acts` whether the effects
    of units on the outputs do, and `trains` whether an alignment that is trained on them is better for it.
    """

    evidence: Evidence
    says: str
    shows: bool
    acts: bool = False
    trains: bool = False


# Dreams when it is called, or gives None where that is not worth the time. Raises DeepalignError where the
# network is not known or cannot be run.
Dreaming = Callable[[Progress], Dreamt | None]
