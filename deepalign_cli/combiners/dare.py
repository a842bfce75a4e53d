"""DARE (Yu et al. 2024, arXiv 2311.03099): drop entries of task vectors at random, scale up the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.combiners.consensus import agreed
from deepalign_cli.combiners.drawn import generator_for, rescaled
from deepalign_cli.combiners.task_vectors import added, from_base


@dataclass(frozen=True)
class DareLinear:
    """base + sum_i lambda_i w_i t_i, with t_i what is left of network i - base, scaled up.

    Each entry of a difference stays with probability `density`. The first tensor is the base.
    """

    weights: Sequence[float]
    density: Sequence[float]
    lambda_: Sequence[float]
    seed: int = 0

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        return from_base(name, tensors, self.weights, lambda t: self._step(self._dropped(name, t)))

    def _step(self, vectors: Tensor) -> Tensor:
        return added(vectors, self.weights, self.lambda_)

    def _dropped(self, name: str, vectors: Tensor) -> Tensor:
        return torch.stack([
            dropped(vector, share, generator_for(self.seed, name, i))
            for i, (vector, share) in enumerate(zip(vectors, self.density, strict=True))
        ])  # fmt: skip


@dataclass(frozen=True)
class DareTies(DareLinear):
    """The same, of the networks that agree on an entry's sign, as in TIES; not divided by their weights."""

    def _step(self, vectors: Tensor) -> Tensor:
        return agreed(vectors, self.weights, self.lambda_, mean=False)


def dropped(
    vector: Float[Tensor, "*shape"], density: float, generator: torch.Generator
) -> Float[Tensor, "*shape"]:
    """Every entry with probability `density`, else 0; the sum of magnitudes stays."""
    if density >= 1:
        return vector
    stays = torch.rand(vector.shape, generator=generator) < density
    return rescaled(vector * stays, vector)
