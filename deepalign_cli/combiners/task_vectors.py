"""Task vectors (Ilharco et al. 2023, arXiv 2212.04089): what training has changed, network - base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.symmetry.tensors import is_mixed, is_trained, narrowed, widened

# What is to be added to the base, from the task vectors [networks, ...].
Step = Callable[[Tensor], Tensor]


def from_base(
    name: str, tensors: Sequence[Shaped[Tensor, "*shape"]], weights: Sequence[float], step: Step
) -> Shaped[Tensor, "*shape"]:
    """The base + step(task vectors), in the base's type; the first tensor is the base.

    Running statistics are those of the networks, averaged by the weights above 0; what is not floating point
    comes from the base.
    """
    base = tensors[0]
    if not is_trained(name, base):
        return _averaged(name, tensors, weights) if is_mixed(base) else base
    wide = [widened(w) for w in tensors]
    dtype = reduce(torch.promote_types, (w.dtype for w in wide))
    vectors = torch.stack([w.to(dtype) - wide[0] for w in wide[1:]])
    return narrowed(wide[0] + step(vectors), base.dtype, name)


def column(numbers: Sequence[float], vectors: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """A number for each network, as a tensor that multiplies its task vector."""
    return torch.tensor(numbers, dtype=vectors.dtype).reshape(-1, *[1] * (vectors.ndim - 1))


def added(
    vectors: Float[Tensor, "n ..."], weights: Sequence[float], scales: Sequence[float]
) -> Float[Tensor, " ..."]:
    """sum_i scales[i] * weights[i] * vectors[i]."""
    factors = [scale * weight for scale, weight in zip(scales, weights, strict=True)]
    return (column(factors, vectors) * vectors).sum(0)


def _averaged(name: str, tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    positive = [max(weight, 0.0) for weight in weights]
    if not any(positive):
        return tensors[0]
    shares = [weight / sum(positive) for weight in positive]
    return WeightedMean(shares)(name, [w.to(tensors[0].dtype) for w in tensors[1:]])
