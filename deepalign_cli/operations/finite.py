"""Refusing networks whose training has diverged."""

from __future__ import annotations

import math

import torch

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import NonFiniteError
from deepalign_cli.symmetry.tensors import real_view


def check_finite(checkpoint: Checkpoint) -> None:
    """Check that no floating-point tensor holds NaN or Inf. Raises NonFiniteError where one does."""
    for name, info in checkpoint.infos.items():
        if (info.is_float or info.is_complex) and not is_finite(checkpoint[name]):
            problem = f"'{name}' in '{checkpoint.path}' holds NaN or Inf."
            raise NonFiniteError(problem, "use an earlier checkpoint: the training has diverged.")


def is_finite(w: torch.Tensor) -> bool:
    """Whether all entries are finite; one pass unless the sum overflows."""
    w = real_view(w)
    if w.itemsize == 1:
        w = w.float()
    return math.isfinite(float(w.sum())) or bool(w.isfinite().all())
