"""Coordinate descent in which some groups turn: assignments and Procrustes problems in turn.

Every group's best move is exact while the others stay, so that <A, g B> rises with each. From the identity
nothing is to be seen, so the first sweep goes from the labelled ends inwards: a tensor counts once all its
groups have been visited.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.head_steps import best_heads, own_gains
from deepalign_cli.aligners.steps import best_step
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.turns import Turn

_SWEEPS = 30
_RESOLUTION = 1e-7  # of |A| |B|: a smaller rise is rounding


def descend_turning(
    problem: Gains, fixed: Mapping[str, Turn], progress: Progress = SILENT,
    begin: Mapping[str, Turn] = MappingProxyType({}),
) -> tuple[Element, list[float]]:  # fmt: skip
    """Coordinate descent from the labelled ends inwards: the element, and the objective after every sweep.

    Groups in `fixed` are turned so from the beginning, and stay; those in `begin` in the first sweep.
    """
    symmetry = problem.symmetry
    g = Element(symmetry.identity().perm, turn={**_unturned(symmetry), **fixed, **begin})
    blocks = [one for one in blocks_of(symmetry) if one[0] not in fixed]
    visited, stage = {*fixed, *begin}, progress.part(1.0, "turning", len(blocks) * _SWEEPS)
    for first, *inner in (one for one in blocks if one[0] not in begin):
        visited |= {first, *inner}
        ready = {n for n in problem.names[first] if {*symmetry.groups_of(n)} <= visited}
        if ready:
            g = _step(problem, first, inner, g, ready)[0] @ g
        stage()
    objective = [problem.objective(g)]
    least, waiting = _RESOLUTION * problem.scale, {first for first, *_ in blocks}
    for _ in range(_SWEEPS - 1):
        for first, *inner in blocks:
            stage()
            if first not in waiting:
                continue
            waiting.discard(first)
            moved, rise = _tried(problem, first, inner, g)
            if rise > least:
                g = moved
                objective.append(objective[-1] + rise)
                waiting |= {b[0] for b in blocks if problem.neighbours[first] & {*b}} - {first}
        if not waiting:
            break
    return g, objective


def blocks_of(symmetry: Symmetry) -> list[list[str]]:
    """What moves in one step: streams that turn, then the others in order, heads with what is inside them.

    What stands between heads and what is inside, as the heads of queries behind one of keys, comes after.
    """
    inside: dict[str, list[str]] = {}
    between: dict[str, list[str]] = {}
    for group, outer in symmetry.within.items():
        if outer:
            places = symmetry.occurrences[group]
            is_last = any(place.number + 1 == len(place.block.factors) for place in places)
            (inside if is_last else between).setdefault(outer, []).append(group)
    blocks = [[group] for group, outer in symmetry.within.items() if not outer]
    for group in symmetry.sizes:
        if group not in symmetry.within:
            blocks += [[group, *inside.get(group, ())], *([one] for one in between.get(group, ()))]
    return blocks


def _unturned(symmetry: Symmetry) -> dict[str, Turn]:
    """The identity of every group that turns: it is part of the element though the descent leave it so."""
    sizes = symmetry.sizes
    eyes = {group: torch.eye(sizes[group], dtype=torch.float64) for group in symmetry.within}
    return {
        group: Turn(eyes[group].repeat(sizes[outer] if outer else 1, 1, 1), outer)
        for group, outer in symmetry.within.items()
    }


def _tried(problem: Gains, first: str, inner: list[str], g: Element) -> tuple[Element, float]:
    """The element after a block's best step, and by how much the objective rises."""
    step, rise = _step(problem, first, inner, g)
    moved = step @ g
    if all(problem.is_linear(group) for group in (first, *inner)):
        return moved, rise
    return moved, problem.objective(moved, first) - problem.objective(g, first)


def _step(
    problem: Gains, first: str, inner: list[str], g: Element, names: set[str] | None = None
) -> tuple[Element, float]:
    """The best relative move of a block while all else stays, by some tensors or all."""
    symmetry = problem.symmetry
    if inner:
        return best_heads(problem, first, inner, g, names)
    if first in symmetry.within:
        c = own_gains(problem, first, g, names)
        q = symmetry.kinds[first].nearest(c)
        rise = (q * c).sum() - c.diagonal(dim1=1, dim2=2).sum()
        return Element({}, turn={first: Turn(q, symmetry.within[first])}), float(rise)
    gains = problem.matrices(first, g) if names is None else problem.partial(first, g, names)
    step = best_step(gains)
    return step.element(first), step.rise
