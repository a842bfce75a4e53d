"""Weight matching with a prediction as a prior: the distance decides only where the prediction hesitates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.steps import Matrices, best_step
from deepalign_cli.symmetry.element import Element

_SWEEPS = 10
_SHARE = 2.0  # of the prediction beside the gain; 1 and 4 were no better on held-out networks


def descend_with_prior(
    problem: Gains,
    similarity: Mapping[str, Float[Tensor, "_ _"]],
    start: Element,
    order: Sequence[str],
    share: float = _SHARE,
    flipping: Mapping[str, Float[Tensor, "_ _"]] = MappingProxyType({}),
) -> Element:
    """Block steps on gain / std(gain) + share * similarity / std(similarity), until nothing moves.

    `similarity` is between the networks as they came; `start` is where the descent begins. The part of it
    that changes sign with a unit stands in `flipping`. Groups of which a unit can change its sign get it
    from the flipping parts of both, as in weight matching.
    """
    g = start
    for _ in range(_SWEEPS):
        moved = False
        for group in order:
            gains = problem.matrices(group, g)
            prior = Matrices(similarity[group], flipping.get(group), problem.symmetry.identity())
            step = best_step(_weighted_sum(gains, _framed(prior, group, g), share))
            if (step.perm != torch.arange(len(step.perm))).any() or (
                step.sign is not None and (step.sign < 0).any()
            ):
                g, moved = step.element(group) @ g, True
        if not moved:
            break
    return g


def _framed(prior: Matrices, group: str, g: Element) -> Matrices:
    """A prior between networks as they came, in the frame of `g`."""
    perm, flipping = g.perm[group], prior.flipping
    if flipping is not None:
        sign = g.scale.get(group, torch.ones(len(perm), dtype=torch.float64)).sign()
        flipping = flipping[:, perm] * sign.to(flipping.dtype)
    return Matrices(prior.plain[:, perm], flipping, g)


def _weighted_sum(gains: Matrices, prior: Matrices, share: float) -> Matrices:
    """The sum gains / std + share * prior / std; the deviations are those of the values that are assigned."""
    of_gains, of_prior = 1 / deviation(gains), share / deviation(prior)
    dtype = gains.plain.dtype
    plain = of_gains * gains.plain + (of_prior * prior.plain).to(dtype)
    parts = [
        factor * matrix.to(dtype)
        for factor, matrix in ((of_gains, gains.flipping), (of_prior, prior.flipping))
        if matrix is not None
    ]
    return Matrices(plain, torch.stack(parts).sum(0) if parts else None, gains.element)


def deviation(matrices: Matrices) -> float:
    """The standard deviation of the values that are assigned."""
    value = matrices.plain if matrices.flipping is None else matrices.plain + matrices.flipping.abs()
    return float(value.std(correction=0)) + 1e-30


def with_signs(problem: Gains, g: Element, groups: Sequence[str] | None = None) -> Element:
    """`g` with the signs that suit the gains, group by group until none turns; permutations stay.

    Those of `groups`, by default of all whose units may turn.
    """
    groups = problem.symmetry.turning if groups is None else groups
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
