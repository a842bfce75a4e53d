"""The weighted average of aligned networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.symmetry.tensors import narrowed, widened

_FUSED = (torch.bfloat16, torch.float16)  # which torch.lerp widens and rounds itself, in one pass


@dataclass(frozen=True)
class WeightedMean:
    """sum_i weights[i] * tensor_i, in the dtype of the first input; `weights` sum to 1.

    Half types are summed in float32 and rounded once. Complex numbers are averaged, too; integers come from
    the first input.
    """

    weights: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        first = tensors[0]
        if first.is_complex():
            return torch.view_as_complex(self(name, [torch.view_as_real(w) for w in tensors]))
        if not first.is_floating_point():
            return first
        if len(tensors) == 2:
            if first.dtype in _FUSED and tensors[1].dtype == first.dtype:
                return torch.lerp(first, tensors[1], self.weights[1])  # in float32, and rounded once, too
            a, b = same_type(widened(first), widened(tensors[1]))
            return narrowed(torch.lerp(a, b, self.weights[1]), first.dtype, name)
        total = widened(first) * self.weights[0]
        for tensor, weight in zip(tensors[1:], self.weights[1:], strict=True):
            total = total + widened(tensor) * weight
        return narrowed(total, first.dtype, name)


def same_type(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the wider of their types."""
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)
