"""The naive baseline: every unit stays where it is."""

from __future__ import annotations

import time

import torch

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Symmetry, Weights


class NoAlignment:
    """An aligner that moves nothing."""

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        apart = distance(symmetry, reference, moving)
        return Alignment(symmetry, symmetry.identity(), "none", time.perf_counter() - started, apart, apart)
