"""The arc between two networks, or between their task vectors (after mergekit's nuslerp; Shoemake 1985)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.combiners.linear import WeightedMean, same_type
from deepalign_cli.combiners.slerp import slerp
from deepalign_cli.combiners.task_vectors import from_base
from deepalign_cli.symmetry.tensors import is_trained, narrowed, widened


@dataclass(frozen=True)
class NuSlerp:
    """The point at the second weight on the arc between two tensors, however small the angle.

    Of three tensors the first is a base, and the arc is that between the others' differences from it.
    """

    weights: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        t, first = self.weights[1], tensors[0]
        if len(tensors) > len(self.weights):
            return from_base(name, tensors, self.weights, lambda vectors: slerp(vectors[0], vectors[1], t))
        if not is_trained(name, first):
            return WeightedMean(self.weights)(name, tensors)
        a, b = same_type(widened(first), widened(tensors[1]))
        return narrowed(slerp(a, b, t), first.dtype, name)
