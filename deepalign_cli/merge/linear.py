"""Combining aligned networks, one tensor of each in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.symmetry.tensors import is_trained, widened

_COLLINEAR = 1e-4


class Path(StrEnum):
    """The way from one network to the other: the straight line, or the arc (Shoemake 1985)."""

    LINEAR = "linear"
    SLERP = "slerp"


def merged(
    name: str, tensors: Sequence[Shaped[Tensor, "*shape"]], weights: Sequence[float], path: Path = Path.LINEAR
) -> Shaped[Tensor, "*shape"]:
    """The tensor `name` of the merged network, in the dtype of the first input.

    `weights` sum to 1. Half types are summed in float32 and rounded once. What is not floating point
    comes from the first input. Under `slerp`, which takes two inputs, running statistics, and tensors
    that point the same way, are averaged on the straight line.
    """
    first = tensors[0]
    if not first.is_floating_point():
        return first
    if path is Path.SLERP and is_trained(name, first):
        return _slerp(widened(first), widened(tensors[1]), weights[1]).to(first.dtype)
    if len(tensors) == 2:
        a, b = _same_type(widened(first), widened(tensors[1]))
        return torch.lerp(a, b, weights[1]).to(first.dtype)
    total = widened(first) * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total = total + widened(tensor) * weight
    return total.to(first.dtype)


def normalised(weights: Sequence[float]) -> tuple[float, ...]:
    """The weights over their sum.

    Raises:
        ValueError: a weight is negative or not finite, or all are zero.
    """
    total = math.fsum(weights)
    if not all(math.isfinite(w) and w >= 0 for w in weights) or total <= 0:
        raise ValueError("weights must be finite, not negative, and not all zero")
    return tuple(w / total for w in weights)


def _same_type(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


def _slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    a, b = _same_type(a, b)
    lengths = [float(torch.linalg.vector_norm(x, dtype=torch.float64)) for x in (a, b)]
    if min(lengths) == 0.0 or t in (0.0, 1.0):
        return torch.lerp(a, b, t)
    cosine = float((a * b).sum(dtype=torch.float64)) / (lengths[0] * lengths[1])
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < _COLLINEAR:
        return torch.lerp(a, b, t)
    return (a * math.sin((1 - t) * angle) + b * math.sin(t * angle)) / math.sin(angle)
