"""Where a descent begins: at the identity, at the front, or at a planted element."""

from __future__ import annotations

from collections.abc import Sequence

from deepalign_cli.aligners.gains import Gains, best_step
from deepalign_cli.aligners.profile import profile_element, profile_match
from deepalign_cli.symmetry.element import Element

_ALIKE = 0.2  # of the mean distance of two units' profiles: matched ones of a planted element are nearer
_PLANTED = 0.1  # of the identity's squared distance: unrelated networks never come this near


def front_start(problem: Gains, order: Sequence[str]) -> Element:
    """One sweep in which a tensor counts only once all its other groups have been visited.

    A gain taken against units that are still in disorder is noise; from the labelled ends inwards there
    is none. On residual networks descents from here end closer than from the identity.
    """
    g, visited = problem.symmetry.identity(), set[str]()
    for group in order:
        visited.add(group)
        ready = [n for n in problem.names[group] if set(problem.symmetry.groups_of(n)) <= visited]
        if ready:
            step = best_step(problem.partial(group, g, ready))
            g = step.element(group) @ g
    return g


def planted_element(problem: Gains) -> Element | None:
    """The element that carries one network onto the other where they are nearly equal up to it."""
    smallest = min(problem.symmetry.sizes, key=problem.symmetry.sizes.__getitem__, default=None)
    if smallest is None or profile_match(problem, smallest)[1] > _ALIKE:
        return None
    identity, profile = problem.symmetry.identity(), profile_element(problem)
    energy = problem.energy
    apart = [energy - 2 * problem.objective(g) for g in (identity, profile)]
    return profile if apart[1] < _PLANTED * apart[0] else None
