"""The combiner `median`: called with a tensor's name and that tensor of every aligned network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Median:
    """The middle of every number over the networks, and the mean of the middle two where they are even.

    `weights`, one for each network, is what every combiner is made with; a median has no use for them. What
    is no floating-point tensor, as a counter, comes from the first network.
    """

    weights: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Tensor]) -> Tensor:
        first = tensors[0]
        if not first.is_floating_point():
            return first
        stacked = torch.stack([w.double() for w in tensors]).sort(0).values
        middle = stacked[(len(tensors) - 1) // 2 : len(tensors) // 2 + 1]
        return middle.mean(0).to(first.dtype)
