"""Networks of several types as networks of one, in which they can be multiplied by each other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.symmetry.symmetry import Weights

_DOUBLE = "F64"


def in_one_type(inputs: Sequence[Checkpoint]) -> Sequence[Weights]:
    """All floating-point tensors in float64, where some are stored in it and others are not; else the inputs.

    Whatever is narrower than float32 is widened where it is used. Units move in the types that are stored:
    this is for finding which ones.
    """
    wide = {info.dtype == _DOUBLE for one in inputs for info in one.infos.values() if info.is_float}
    if len(wide) < 2:
        return inputs
    return [Lazy(one, partial(_doubled, one)) for one in inputs]


def _doubled(weights: Weights, name: str) -> Tensor:
    w = weights[name]
    return w.to(torch.float64) if w.is_floating_point() else w
