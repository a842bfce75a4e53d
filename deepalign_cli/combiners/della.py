"""DELLA (Deep et al. 2024, arXiv 2406.11617): drop entries at random, small ones more often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.combiners.consensus import agreed
from deepalign_cli.combiners.drawn import generator_for, rescaled
from deepalign_cli.combiners.task_vectors import added, from_base
from deepalign_cli.errors import UsageError

_PIECE = 2**22  # numbers that are sorted at a time: ranks take 16 bytes each


@dataclass(frozen=True)
class Della:
    """base + sum_agree lambda_i w_i t_i / sum_agree w_i, with t_i what is left of network i - base.

    What is left is scaled up. An entry of a difference stays with a probability that grows with the rank of
    its magnitude in its row, from `density` - `epsilon` to `density` + `epsilon`. Signs are elected as in
    TIES. The first tensor is the base.

    Raises:
        UsageError: a probability would not be between 0 and 1.
    """

    weights: Sequence[float]
    density: Sequence[float]
    epsilon: Sequence[float]
    lambda_: Sequence[float]
    seed: int = 0

    def __post_init__(self) -> None:
        for density, epsilon in zip(self.density, self.epsilon, strict=True):
            if density < 1 and not epsilon < density < 1 - epsilon:
                problem = f"--density {density:g} and --epsilon {epsilon:g} do not go together."
                raise UsageError(problem, "density - epsilon must be above 0, density + epsilon below 1.")

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        return from_base(name, tensors, self.weights, lambda t: self._step(self._sampled(name, t)))

    def _step(self, vectors: Tensor) -> Tensor:
        return agreed(vectors, self.weights, self.lambda_, mean=True)

    def _sampled(self, name: str, vectors: Tensor) -> Tensor:
        shares = zip(vectors, self.density, self.epsilon, strict=True)
        return torch.stack([
            sampled(vector, density, epsilon, generator_for(self.seed, name, i))
            for i, (vector, density, epsilon) in enumerate(shares)
        ])  # fmt: skip


@dataclass(frozen=True)
class DellaLinear(Della):
    """base + sum_i lambda_i w_i t_i: the same without the election of signs."""

    def _step(self, vectors: Tensor) -> Tensor:
        return added(vectors, self.weights, self.lambda_)


def sampled(
    vector: Float[Tensor, "*shape"], density: float, epsilon: float, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Every entry with the probability of its rank, else 0; the sum of magnitudes stays."""
    if density >= 1 or not vector.numel():
        return vector
    rows = vector.reshape(1, -1) if vector.ndim < 2 else vector.flatten(1)
    pieces = torch.split(rows, max(1, _PIECE // rows.shape[1]))
    stays = [
        torch.rand(piece.shape, generator=generator) < density + epsilon * (2 * ranks(piece) - 1)
        for piece in pieces
    ]
    return rescaled(vector * torch.cat(stays).reshape(vector.shape), vector)


def ranks(rows: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """The rank of every entry's magnitude in its row, from 0 to 1; 0.5 where a row has one entry."""
    last = rows.shape[1] - 1
    if not last:
        return torch.full_like(rows, 0.5)
    order = rows.abs().argsort(1)
    shares = torch.arange(last + 1, dtype=rows.dtype) / last
    return torch.empty_like(rows).scatter_(1, order, shares.expand_as(rows))
