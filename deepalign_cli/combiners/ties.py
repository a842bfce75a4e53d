"""TIES (Yadav et al. 2023, arXiv 2306.01708): trim task vectors, elect signs, average those that agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.combiners.consensus import agreed
from deepalign_cli.combiners.ranked import largest
from deepalign_cli.combiners.task_vectors import from_base


@dataclass(frozen=True)
class Ties:
    """base + sum_agree lambda_i w_i t_i / sum_agree w_i, with t_i what is left of network i - base.

    Of each difference the `density` of largest entries stay, tensor by tensor. An entry's sign is that of
    sum_i w_i t_i; networks whose entry has this sign agree. The first tensor is the base.
    """

    weights: Sequence[float]
    density: Sequence[float]
    lambda_: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        def step(vectors: Tensor) -> Tensor:
            kept = [trimmed(vector, share) for vector, share in zip(vectors, self.density, strict=True)]
            return agreed(torch.stack(kept), self.weights, self.lambda_, mean=True)

        return from_base(name, tensors, self.weights, step)


def trimmed(vector: Float[Tensor, "*shape"], density: float) -> Float[Tensor, "*shape"]:
    """The entries of largest magnitude, a share `density` of all and at least one; 0 elsewhere."""
    count = max(1, int(density * vector.numel()))
    return torch.where(largest(vector.abs(), count), vector, 0.0)
