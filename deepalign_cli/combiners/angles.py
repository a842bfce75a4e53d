"""What needs only the angles between tensors: inner products of all pairs, and sums.

The point that `slerp`, `karcher` or `model_stock` looks for lies in the span of its inputs, so it is a sum of
them. Its coefficients follow from the inner products alone: one pass over the numbers in float64, arithmetic
on a matrix of networks by networks, and one sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

_PIECE = 2**20  # numbers that are in float64 at a time


def gram(tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Float64[Tensor, "n n"]:
    """The inner products of all pairs of tensors, each taken as one vector."""
    flat = [w.reshape(-1) for w in tensors]
    products = torch.zeros(len(flat), len(flat), dtype=torch.float64)
    for pieces in zip(*(torch.split(w, _PIECE) for w in flat), strict=True):
        rows = torch.stack([piece.double() for piece in pieces])
        products += rows @ rows.T
    return products


def cosine(products: Float64[Tensor, "n n"], i: int, j: int, least: float = 0.0) -> float:
    """The cosine of the angle between two tensors; 0 where a norm is 0.

    The product of their norms counts as `least` at least.
    """
    norms = float(products[i, i].sqrt() * products[j, j].sqrt())
    return max(-1.0, min(1.0, float(products[i, j]) / max(norms, least))) if norms > 0 else 0.0


def summed(
    coefficients: Sequence[float], tensors: Sequence[Shaped[Tensor, "*shape"]]
) -> Shaped[Tensor, "*shape"]:
    """sum_i coefficients[i] * tensors[i]."""
    total = tensors[0] * coefficients[0]
    for coefficient, tensor in zip(coefficients[1:], tensors[1:], strict=True):
        total = total + tensor * coefficient
    return total
