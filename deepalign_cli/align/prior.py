"""Weight matching with a prediction as a prior: the distance decides only where the prediction hesitates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.align.gains import Gains
from deepalign_cli.assignment import assign
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Kind

_SWEEPS = 10
_SHARE = 2.0  # of the prediction beside the gain; 1 and 4 were no better on held-out networks


def descend_with_prior(
    problem: Gains,
    similarity: Mapping[str, Float[Tensor, "_ _"]],
    start: Element,
    order: Sequence[str],
    share: float = _SHARE,
) -> Element:
    """Block steps on gain / std(gain) + share * similarity / std(similarity), until nothing moves.

    `similarity` is between the networks as they came; `start` is where the descent begins. Groups of
    which a unit can change its sign get it from the gain, as in weight matching.
    """
    g = start
    for _ in range(_SWEEPS):
        moved = False
        for group in order:
            gains = problem.matrices(group, g)
            value = gains.plain if gains.flipping is None else gains.plain + gains.flipping.abs()
            own = similarity[group][:, g.perm[group]].to(value.dtype)
            perm = assign(
                value / (value.std(correction=0) + 1e-30) + share * own / (own.std(correction=0) + 1e-30)
            )
            units = torch.arange(len(perm))
            scale = {}
            if gains.flipping is not None:
                scale[group] = torch.where(gains.flipping[units, perm] < 0, -1.0, 1.0).double()
            if (perm != units).any() or any((s < 0).any() for s in scale.values()):
                g, moved = Element({group: perm}, scale) @ g, True
        if not moved:
            break
    return g


def with_signs(problem: Gains, g: Element) -> Element:
    """`g` with the signs that suit the gains, group by group until none turns; permutations stay."""
    groups = [name for name, kind in problem.symmetry.kinds.items() if kind is Kind.SIGN]
    for _ in range(_SWEEPS if groups else 0):
        turned = False
        for group in groups:
            flipping = problem.matrices(group, g).flipping
            if flipping is None:
                continue
            sign = torch.where(flipping.diagonal() < 0, -1.0, 1.0).double()
            if (sign < 0).any():
                g, turned = Element({}, {group: sign}) @ g, True
        if not turned:
            break
    return g


def _standard(x: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    return x / (x.std(correction=0) + 1e-30)
