"""What a tensor counts as: trained or a running statistic, and the type in which arithmetic is done."""

from __future__ import annotations

import torch
from torch import Tensor

from deepalign_cli.symmetry.tensor_names import is_statistic


def is_trained(name: str, w: Tensor) -> bool:
    """Whether a tensor counts in distances: floating point, and not a running statistic.

    Statistics move with their units but do not count: with them in the cost the fixed midpoint of
    residual networks with BatchNorm falls (`benchmarks/peers.py`).
    """
    return w.is_floating_point() and not is_statistic(name)


def widened(w: Tensor) -> Tensor:
    """The tensor in float32, or in float64 where it came so: the type in which arithmetic is done."""
    return w if w.dtype in (torch.float32, torch.float64) else w.float()
