"""Model Breadcrumbs (Davari and Belilovsky 2024, arXiv 2312.06795): the middle sizes of a task vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.combiners.consensus import agreed
from deepalign_cli.combiners.ranked import smallest
from deepalign_cli.combiners.task_vectors import added, from_base


@dataclass(frozen=True)
class Breadcrumbs:
    """base + sum_i lambda_i w_i t_i, with t_i the middle of network i - base.

    Of each difference the share `gamma` of largest entries is dropped, and so are the smallest, as many as
    leave the share `density`. The first tensor is the base.
    """

    weights: Sequence[float]
    density: Sequence[float]
    gamma: Sequence[float]
    lambda_: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        return from_base(name, tensors, self.weights, lambda t: self._step(self._middles(t)))

    def _step(self, vectors: Tensor) -> Tensor:
        return added(vectors, self.weights, self.lambda_)

    def _middles(self, vectors: Tensor) -> Tensor:
        shares = zip(vectors, self.density, self.gamma, strict=True)
        return torch.stack([middle(vector, density, gamma) for vector, density, gamma in shares])


@dataclass(frozen=True)
class BreadcrumbsTies(Breadcrumbs):
    """The same, of the networks that agree on an entry's sign, as in TIES; not divided by their weights."""

    def _step(self, vectors: Tensor) -> Tensor:
        return agreed(vectors, self.weights, self.lambda_, mean=False)


def middle(vector: Float[Tensor, "*shape"], density: float, gamma: float) -> Float[Tensor, "*shape"]:
    """The entries left when a share `gamma` of largest and then the smallest are dropped; 0 elsewhere.

    A share `density` of all is left: where gamma is more than can be dropped for that, fewer large ones are.
    """
    if density >= 1:
        return vector
    size = vector.numel()
    count, top = int(density * size), int(gamma * size)
    bottom = max(0, size - count - top)
    magnitudes = vector.abs()
    kept = smallest(magnitudes, bottom + count) & ~smallest(magnitudes, bottom)
    return torch.where(kept, vector, 0.0)
