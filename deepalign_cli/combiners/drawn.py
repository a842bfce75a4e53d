"""What random combiners share: numbers drawn for a tensor of a network, and the size put right afterwards."""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-7  # a sum of magnitudes below it is no size to scale to


def generator_for(seed: int, name: str, network: int) -> torch.Generator:
    """A generator for one tensor of one network: the same whatever tensors are asked for before it."""
    digest = hashlib.sha256(f"{seed}/{network}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def rescaled(kept: Float[Tensor, "*shape"], vector: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What was kept of a task vector, multiplied so that the sum of its magnitudes is that of the whole."""
    before, after = (float(w.abs().sum(dtype=torch.float64)) for w in (vector, kept))
    return kept if min(before, after) < _TINY else kept * (before / after)
