"""Task arithmetic (Ilharco et al. 2023, arXiv 2212.04089): task vectors are added, or subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.combiners.task_vectors import added, from_base


@dataclass(frozen=True)
class TaskArithmetic:
    """base + sum_i lambda[i] * weights[i] * (network_i - base).

    The first tensor is the base. A weight below 0 takes away what a network has learned.
    """

    weights: Sequence[float]
    lambda_: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        return from_base(name, tensors, self.weights, lambda t: added(t, self.weights, self.lambda_))
