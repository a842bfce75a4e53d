"""Model Stock (Jang et al. 2024, arXiv 2403.19522): how far to go from a base to an average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.combiners.angles import cosine, gram
from deepalign_cli.combiners.task_vectors import from_base

_SHORT = 1e-6  # two task vectors whose norms have a smaller product count as less alike than they are
_SINGULAR = 1e-6


@dataclass(frozen=True)
class ModelStock:
    """base + t * mean(network_i - base), with t = n c / (1 + (n - 1) c) for every tensor of n networks.

    c is the cosine of the angle between two differences, averaged over all pairs: the more alike, the further
    from the base. The first tensor is the base.
    """

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        equal = [1.0] * (len(tensors) - 1)
        return from_base(name, tensors, equal, lambda vectors: ratio(list(vectors)) * vectors.mean(0))


def ratio(vectors: Sequence[Shaped[Tensor, "*shape"]]) -> float:
    """t, how much of the average task vector to take; 0 where opposing ones leave no finite answer."""
    products, count = gram(vectors), len(vectors)
    pairs = [cosine(products, i, j, _SHORT) for i, j in combinations(range(count), 2)]
    mean = sum(pairs) / len(pairs)
    below = 1 + (count - 1) * mean
    return 0.0 if abs(below) < _SINGULAR else count * mean / below
