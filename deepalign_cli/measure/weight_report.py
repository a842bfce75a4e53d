"""What weights alone say of a merge: how far the layers are apart, and how much variance averaging loses.

None of it is a loss. The variance estimate takes a layer's inputs for uncorrelated and alike in both
networks: the average of two units with incoming weights a and b then keeps |a + b|^2 / (2 |a|^2 + 2 |b|^2)
of their variance (Jordan et al. 2023 call the loss variance collapse and measure it on data).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_trained, widened


@dataclass(frozen=True)
class LayerReport:
    """One tensor of two or more axes.

    `distance` is |A - B| over sqrt(|A| |B|); `correlation` the mean cosine of matched units' incoming
    weights, and `variance` the mean share of a unit's variance that the average keeps. The last two are
    None for a tensor whose first axis carries no units.
    """

    name: str
    distance: float
    correlation: float | None
    variance: float | None


def weight_report(symmetry: Symmetry, reference: Weights, moved: Weights) -> list[LayerReport]:
    """Every trained tensor of two or more axes, in the order of the file."""
    return [
        _layer(symmetry, name, widened(w), widened(moved[name]))
        for name, w in reference.items()
        if is_trained(name, w) and w.ndim > 1
    ]


def variance_kept(rows: list[LayerReport]) -> float | None:
    """The product over layers: by this estimate, what is left of the variance behind the last.

    None where no layer has units that could move.
    """
    shares = [row.variance for row in rows if row.variance is not None]
    return math.prod(shares) if shares else None


def _layer(symmetry: Symmetry, name: str, a: Tensor, b: Tensor) -> LayerReport:
    size = float(a.norm() * b.norm()) ** 0.5
    distance = float((a - b).norm()) / size if size else 0.0
    axis = symmetry.spec.axes[name][0] if name in symmetry.spec.axes else None
    if axis is None or not list(axis.groups()):
        return LayerReport(name, distance, None, None)
    first, second = (w.flatten(1).double() for w in (a, b))
    cosines = torch.nn.functional.cosine_similarity(first, second, dim=1)
    return LayerReport(name, distance, float(cosines.mean()), float(_variance_share(first, second).mean()))


def _variance_share(a: Float[Tensor, "n m"], b: Float[Tensor, "n m"]) -> Float[Tensor, " n"]:
    parents = 2 * (a.square().sum(1) + b.square().sum(1))
    return torch.where(parents > 0, (a + b).square().sum(1) / parents.clamp(min=1e-30), 1.0)
