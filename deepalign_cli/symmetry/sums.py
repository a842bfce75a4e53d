"""Sums over the entries of large tensors, by pieces that stay in the processor's cache, in float64.

Nothing of a tensor's size is made, and narrow types are widened a piece at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.symmetry.tensors import widened

_PIECE = 1 << 15  # entries: torch starts no threads for so few


def squared_norm(w: Shaped[Tensor, "*shape"]) -> float:
    """The sum of the squares of all entries."""
    return sum(_squared(x) for (x,) in _pieces(w))


def squared_distance(a: Shaped[Tensor, "*shape"], b: Shaped[Tensor, "*shape"]) -> float:
    """The sum of the squares of the entries of a - b, taken in float32 or wider."""
    return sum(_squared(x - y) for x, y in _pieces(a, b))


def inner_product(a: Shaped[Tensor, "*shape"], b: Shaped[Tensor, "*shape"]) -> float:
    """The sum of the products of the entries, in float32 or wider."""
    return sum(float((x * y).sum(dtype=torch.float64)) for x, y in _pieces(a, b))


def _squared(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x, dtype=torch.float64)) ** 2


def _pieces(*tensors: Tensor) -> Iterator[list[Tensor]]:
    flat = [w.reshape(-1) for w in tensors]
    for start in range(0, len(flat[0]), _PIECE):
        yield [widened(w[start : start + _PIECE]) for w in flat]
