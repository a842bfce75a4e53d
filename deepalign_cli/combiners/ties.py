"""TIES (Yadav et al. 2023, arXiv 2306.01708): trim task vectors, elect signs, average those that agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.symmetry.tensors import is_mixed, is_trained, narrowed, widened


@dataclass(frozen=True)
class Ties:
    """base + lambda * sum_agree w_i t_i / sum_agree w_i, with t_i what is left of network i - base.

    Of each difference the `density` of largest entries stay, tensor by tensor. An entry's sign is that of
    sum_i w_i t_i; networks whose entry has this sign agree. The first tensor is the base, which the others
    were trained from. Running statistics are those of the networks, averaged; what is not floating point
    comes from the base.
    """

    weights: Sequence[float]
    density: float = 0.2
    lambda_: float = 1.0

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        base = tensors[0]
        if not is_trained(name, base):
            networks = [w.to(base.dtype) for w in tensors[1:]] if is_mixed(base) else [base]
            return WeightedMean(self.weights)(name, networks)
        start = widened(base)
        differences = torch.stack([_trimmed(widened(w) - start, self.density) for w in tensors[1:]])
        weights = torch.tensor(self.weights, dtype=start.dtype).reshape(-1, *[1] * base.ndim)
        sign = (weights * differences).sum(0).sign()
        agree = weights * ((differences.sign() == sign) & (sign != 0))
        mean = (agree * differences).sum(0) / agree.sum(0).clamp(min=torch.finfo(start.dtype).tiny)
        return narrowed(start + self.lambda_ * mean, base.dtype, name)


def _trimmed(difference: Tensor, density: float) -> Tensor:
    """The entries of largest magnitude, a share `density` of all and at least one; 0 elsewhere."""
    keep = max(1, round(density * difference.numel()))
    if keep >= difference.numel():
        return difference
    least = difference.abs().flatten().kthvalue(difference.numel() - keep + 1).values
    return torch.where(difference.abs() >= least, difference, 0.0)
