"""The mean direction of any number of networks (Karcher 1977; on spheres, Buss and Fillmore 2001)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from deepalign_cli.combiners.angles import gram, summed
from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.symmetry.tensors import is_trained, narrowed, widened

_STEPS = 10
_CLOSE = 1e-5  # radians, and the norm below which a tensor has no direction


@dataclass(frozen=True)
class KarcherMean:
    """The point of the sphere with the least sum_i weights[i] * angle_i^2, times the mean of the norms.

    For every tensor. Running statistics are averaged on the straight line.
    """

    weights: Sequence[float]

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        first = tensors[0]
        if not is_trained(name, first):
            return WeightedMean(self.weights)(name, tensors)
        wide = [widened(w) for w in tensors]
        dtype = reduce(torch.promote_types, (w.dtype for w in wide))
        coefficients = mean_on_sphere(gram(wide), self.weights)
        return narrowed(summed(coefficients, [w.to(dtype) for w in wide]), first.dtype, name)


def mean_on_sphere(products: Float64[Tensor, "n n"], weights: Sequence[float]) -> list[float]:
    """The coefficients of the mean, of the inner products of tensors: a sum of these tensors is the mean.

    From the normalised average, steps along sum_i w_i log(u_i), with u_i the tensors over their norms, until
    one is shorter than 1e-5. Tensors of zeros have no direction and count in the mean of the norms alone.
    """
    norms = products.diagonal().sqrt()
    counted = (norms > _CLOSE) & (torch.tensor(weights) > 0)
    if int(counted.sum()) < 2:
        return [weight * float(is_counted) for weight, is_counted in zip(weights, counted, strict=True)]
    shares = torch.tensor(weights, dtype=torch.float64) * counted
    shares = shares / shares.sum()
    inverse = torch.where(counted, 1 / norms.clamp(min=_CLOSE), 0.0)
    cosines = products * inverse[:, None] * inverse[None, :]
    mean = _start(cosines, shares, counted)
    for _ in range(_STEPS):
        step = _towards(mean, cosines, shares, counted)
        length = _length(step, cosines)
        if length < _CLOSE:
            break
        mean = math.cos(length) * mean + math.sin(length) / length * step
        mean = mean / _length(mean, cosines)
    scale = float((torch.tensor(weights, dtype=torch.float64) * norms).sum())
    coefficients: list[float] = (scale * mean * inverse).tolist()
    return coefficients


def _start(cosines: Tensor, shares: Tensor, counted: Tensor) -> Tensor:
    """The average as coefficients of unit tensors; the first of them where all cancel out."""
    length = _length(shares, cosines)
    if length >= _CLOSE:
        return shares / length
    first = torch.zeros_like(shares)
    first[int(counted.nonzero()[0])] = 1.0
    return first


def _towards(mean: Tensor, cosines: Tensor, shares: Tensor, counted: Tensor) -> Tensor:
    """sum_i w_i log(u_i): the tangent at the mean that points to the middle of the others."""
    to_mean = (cosines @ mean).clamp(-1, 1)
    angles = to_mean.arccos()
    far = counted & (angles >= _CLOSE)
    pull = torch.where(far, shares * angles / angles.sin().clamp(min=1e-12), 0.0)
    return pull - (pull * to_mean).sum() * mean


def _length(coefficients: Tensor, cosines: Tensor) -> float:
    return math.sqrt(max(0.0, float(coefficients @ cosines @ coefficients)))
