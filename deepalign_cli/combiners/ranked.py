"""Entries by rank, an exact number of them whatever entries are equal."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor


def smallest(w: Float[Tensor, "*shape"], count: int) -> Bool[Tensor, "*shape"]:
    """Which entries are the `count` smallest; of equal ones the first are."""
    if count <= 0:
        return torch.zeros_like(w, dtype=torch.bool)
    if count >= w.numel():
        return torch.ones_like(w, dtype=torch.bool)
    flat = w.detach().reshape(-1)
    bound = float(np.partition(flat.numpy(), count - 1)[count - 1])  # a third of the time of kthvalue
    chosen = flat < bound
    equal = (flat == bound).nonzero()[: count - int(chosen.sum()), 0]
    chosen[equal] = True
    return chosen.reshape(w.shape)


def largest(w: Float[Tensor, "*shape"], count: int) -> Bool[Tensor, "*shape"]:
    """Which entries are the `count` largest; of equal ones the first are."""
    return smallest(-w, count)
