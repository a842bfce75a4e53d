"""Tensors that the tests of several combiners share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from deepalign_cli.combiners.combiner import Combine
from deepalign_cli.combiners.table import COMBINERS
from tests.symmetry.builders import seeded

HALVES = [torch.float16, torch.bfloat16]


def drawn(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(64, 32, generator=seeded(i)).to(dtype) for i in range(count)]


def made(name: str, count: int, *, seed: int = 0, weights: tuple[float, ...] = (), **given: Any) -> Combine:
    """The combiner of a name for `count` networks besides a base, `weights` by default those of the row."""
    row = COMBINERS[name]
    return row.make(weights or row.equal(count), given, seed)
