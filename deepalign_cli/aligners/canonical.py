"""Scale canonicalisation: balance every unit's incoming and outgoing norm before matching.

Scaling a ReLU unit leaves the function alone but not the weights' norms, so two networks are first
brought to the same scales: per unit s = sqrt(|w_out| / |w_in|), incoming weights times s, outgoing
weights over s, until it settles (Boufalis et al. 2025, section on ReLU).
"""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_trained, widened

_SWEEPS = 200
_SETTLED = {torch.float64: 1e-12}  # relative change of a scale; in narrower types rounding stops at
_ROUNDED = 3e-7


def canonical_scales(symmetry: Symmetry, weights: Weights) -> Element:
    """The element that balances every unit whose size may change, by positive scales; empty without any.

    It takes the gains of norms on groups that turn into the layers behind them.

    Raises:
        MismatchError: such a gain is too small for that.
    """
    groups, gains = symmetry.stretching, symmetry.without_gains(weights).enter
    scale = {g: torch.ones(symmetry.sizes[g], dtype=torch.float64) for g in groups}
    settled = max((_settled(symmetry, weights, g) for g in groups), default=_ROUNDED)
    for _ in range(_SWEEPS if groups else 0):
        change = 0.0
        for group in groups:
            step = _balance(symmetry, weights, Element({}, scale, enter=gains), group)
            scale[group] = scale[group] * step
            change = max(change, float(step.log().abs().max()))
        if change < settled:
            break
    return Element({}, scale, enter=gains)


def _settled(symmetry: Symmetry, weights: Weights, group: str) -> float:
    dtypes = {widened(weights[place.name]).dtype for place in symmetry.occurrences[group] if place.exponent}
    return max((_SETTLED.get(dtype, _ROUNDED) for dtype in dtypes), default=_ROUNDED)


def _balance(symmetry: Symmetry, weights: Weights, g: Element, group: str) -> Float64[Tensor, " n"]:
    size = symmetry.sizes[group]
    energy = {exponent: torch.zeros(size, dtype=torch.float64) for exponent in (1, -1)}
    for place in symmetry.occurrences[group]:
        w = weights[place.name]
        if place.exponent and is_trained(place.name, w):
            rows = symmetry.unfold(place, symmetry.act(g, place.name, widened(w)))
            energy[place.exponent] += torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).square()
    alive = (energy[1] > 0) & (energy[-1] > 0)
    return torch.where(alive, (energy[-1] / energy[1].clamp(min=1e-300)).pow(0.25), 1.0)
