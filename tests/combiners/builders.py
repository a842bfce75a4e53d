"""Tensors that the tests of several combiners share."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.symmetry.builders import seeded

HALVES = [torch.float16, torch.bfloat16]


def drawn(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(64, 32, generator=seeded(i)).to(dtype) for i in range(count)]
