"""Matching by weights and activations at once.

As in MuDSC (Xu et al. 2024) the two similarities are mixed, here each over its own standard deviation, and
the mixture is descended on group by group, since what the weights say of one depends on the others.
"""

from __future__ import annotations

import time

import torch

from deepalign_cli.aligners.activations import alone, as_alignment, as_prior
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.aligners.prior import descend_with_prior
from deepalign_cli.errors import UsageError
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

SHARE = 0.5


class DualMatching:
    """Descent on (1 - share) * gain / std + share * correlation / std, from activation matching.

    `details` are those of activation matching, and the share.

    Raises:
        UsageError: the share is not between 0 and 1, both left out.
    """

    def __init__(self, evidence: Evidence, share: float = SHARE) -> None:
        if not 0 < share < 1:
            raise UsageError(
                f"--share {share:g} leaves nothing to mix.",
                "-m weights is 0 of it, -m activations all of it.",
            )
        self.evidence, self.share = evidence, share

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        found = self.evidence.correlations(symmetry, reference, moving, progress)
        pair = Pair(symmetry, reference, moving)
        plain, flipping = as_prior(symmetry, found)
        share = self.share / (1 - self.share)
        order = list(symmetry.sizes)
        descended = descend_with_prior(pair.problem, plain, alone(symmetry, found), order, share, flipping)
        return as_alignment("dual", pair, found, descended, started, share=self.share)
