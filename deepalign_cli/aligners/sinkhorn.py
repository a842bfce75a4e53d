"""Sinkhorn re-basin (Pena et al. 2023, arXiv 2212.12042): soft permutations trained on the task's loss.

Adam trains them at a random place of the path; linear assignment rounds them. The rounded midpoint is judged
on training examples as training goes on, and the best is kept, so that the result is never worse there than
what it started from.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.deepalign import learned_aligner
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.soft_permutations import Projection, SoftPermutations
from deepalign_cli.errors import DataError
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

_RATE = 0.3  # of Adam
_EXAMPLES = 200  # in a step
_OWN = 0.8  # of every row of the first soft permutation lies on the start's own place
_JUDGED = 10  # times
_PREDICTING = 0.3  # of the work


class SinkhornRebasin:
    """Sinkhorn re-basin as a method.

    `start` is where training begins: at the learned aligner's `prediction`, or from `scratch` (uniform
    matrices). `steps` are those of Adam, and logits are divided by `temperature` before they are projected:
    the lower, the nearer the soft permutations are to hard ones. Signs and scales are the start's.
    `details` hold the training loss at the midpoint of the start and of the result, `objective` all losses
    of the soft path.
    """

    def __init__(
        self, evidence: Evidence, steps: int = 200, temperature: float = 1.0, start: str = "prediction"
    ) -> None:
        self.evidence, self.steps, self.temperature, self.start = evidence, steps, temperature, start
        self._aligner = learned_aligner(DEFAULT_NETWORK, "prior", 8, None) if start == "prediction" else None

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        """Raises DataError where no loss is known to train on."""
        started, loss = time.perf_counter(), self.evidence.loss
        judge = self.evidence.judge(symmetry, reference, moving)
        if loss is None or judge is None:
            raise DataError("-m sinkhorn trains on a loss, and the data have no labels.", "give --loss.")
        start = self._started(symmetry, reference, moving, rng, progress.part(_PREDICTING, "predicting"))
        logits = _logits(symmetry, warm=self._aligner is not None)
        other, projection = Acted(symmetry, start, moving), Projection(self.temperature)
        soft = SoftPermutations(symmetry, reference, other, logits, _RATE, projection)
        best, least = start, judge(start)
        first, losses = least, []
        training = progress.part(1.0, "training soft permutations", self.steps)
        for step in range(1, self.steps + 1 if symmetry.sizes else 1):
            alpha = float(torch.rand((), generator=rng))
            places = torch.randint(len(loss), (min(_EXAMPLES, len(loss)),), generator=rng)
            losses.append(soft.step(loss, places, alpha))
            if step % max(1, self.steps // _JUDGED) == 0 or step == self.steps:
                element = soft.rounded() @ start
                midpoint = judge(element)
                if midpoint < least:
                    best, least = element, midpoint
            training()
        before, after = (distance(symmetry, reference, moving, g) for g in (None, best))
        details = {"steps": self.steps, "midpoint_loss_before": first, "midpoint_loss_after": least}
        seconds = time.perf_counter() - started
        return Alignment(symmetry, best, "sinkhorn", seconds, before, after, tuple(losses), details)

    def _started(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, rng: torch.Generator,
        progress: Progress,
    ) -> Element:  # fmt: skip
        if self._aligner is None:
            return symmetry.identity()
        return self._aligner(symmetry, reference, moving, rng=rng, progress=progress).element


def _logits(symmetry: Symmetry, *, warm: bool) -> dict[str, Tensor]:
    """Those of uniform matrices, or of matrices near the identity."""
    logits = {}
    for group, n in symmetry.sizes.items():
        high = math.log(_OWN / (1 - _OWN) * (n - 1)) if warm and n > 1 else 0.0
        logits[group] = (high * functional.one_hot(torch.arange(n), n).float()[None]).requires_grad_()
    return logits
