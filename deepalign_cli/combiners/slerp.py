"""The arc between two aligned networks (Shoemake 1985)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.combiners.linear import WeightedMean, same_type
from deepalign_cli.symmetry.tensors import is_trained, narrowed, widened

_COLLINEAR = 1e-4


@dataclass(frozen=True)
class Slerp:
    """(sin((1 - t) w) a + sin(t w) b) / sin w for every tensor, with w the angle between a and b.

    `t` is the second weight. Running statistics, and tensors that point the same way, are averaged on the
    straight line.
    """

    weights: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        first = tensors[0]
        if not is_trained(name, first):
            return WeightedMean(self.weights)(name, tensors)
        arc = _slerp(widened(first), widened(tensors[1]), self.weights[1])
        return narrowed(arc, first.dtype, name)


def _slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    a, b = same_type(a, b)
    lengths = [float(torch.linalg.vector_norm(x, dtype=torch.float64)) for x in (a, b)]
    if min(lengths) == 0.0 or t in (0.0, 1.0):
        return torch.lerp(a, b, t)
    cosine = float((a * b).sum(dtype=torch.float64)) / (lengths[0] * lengths[1])
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if math.sin(angle) < _COLLINEAR:
        return torch.lerp(a, b, t)
    return (a * math.sin((1 - t) * angle) + b * math.sin(t * angle)) / math.sin(angle)
