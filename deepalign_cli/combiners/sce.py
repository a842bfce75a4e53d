"""SCE (FuseChat, Wan et al. 2024, arXiv 2408.07990): select entries, calculate weights, erase minorities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.combiners.consensus import agreeing
from deepalign_cli.combiners.ranked import largest
from deepalign_cli.combiners.task_vectors import column, from_base
from deepalign_cli.errors import UsageError

_PIECE = 2**20  # numbers of each network that are in float64 at a time
_TINY = 1e-6  # mean squares that sum to less weigh all networks alike


@dataclass(frozen=True)
class Sce:
    """base + sum_agree w_i t_i / sum_agree w_i, with t_i a part of network i - base.

    w_i is the mean square of t_i. Selected are the entries that vary most over the networks, a share
    `density` of those that vary at all, tensor by tensor. An entry's sign is that of sum_i t_i. The first
    tensor is the base.

    Raises:
        UsageError: the densities differ.
    """

    density: Sequence[float]

    def __post_init__(self) -> None:
        if len(set(self.density)) > 1:
            problem = "sce selects the same entries of all networks, so it takes one density."
            raise UsageError(problem, f"for example --density {self.density[0]:g}.")

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        def step(vectors: Tensor) -> Tensor:
            chosen = selected(vectors, self.density[0])
            weights = column(mean_squares(chosen), chosen)
            kept = weights * agreeing(chosen)
            return (chosen * kept).sum(0) / kept.sum(0).clamp(min=_TINY)

        return from_base(name, tensors, [1.0] * (len(tensors) - 1), step)


def selected(vectors: Float[Tensor, "n ..."], density: float) -> Float[Tensor, "n ..."]:
    """The entries whose variance over the networks is largest, 0 elsewhere."""
    if density >= 1:
        return vectors
    spread = variance(vectors)
    return vectors * largest(spread, int(int(spread.count_nonzero()) * density))


def variance(vectors: Float[Tensor, "n ..."]) -> Float[Tensor, " ..."]:
    """The variance over the networks, exactly 0 where all are equal (Welford 1962), in pieces."""
    pieces = []
    for rows in torch.split(vectors.flatten(1), _PIECE, dim=1):
        mean, squares = rows[0].double(), torch.zeros(rows.shape[1], dtype=torch.float64)
        for count, row in enumerate(rows[1:], 2):
            change = row - mean
            mean = mean + change / count
            squares += change * (row - mean)
        pieces.append((squares / len(rows)).to(vectors.dtype))
    return torch.cat(pieces).reshape(vectors.shape[1:])


def mean_squares(vectors: Float[Tensor, "n ..."]) -> list[float]:
    """The mean square of each network's entries, over the sum of all; equal where that is tiny."""
    squares = [float(vector.square().double().mean()) for vector in vectors]
    total = sum(squares)
    return [1 / len(squares)] * len(squares) if total < _TINY else [square / total for square in squares]
