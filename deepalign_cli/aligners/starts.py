"""Where a descent begins: at the identity, at the front, or at a planted element."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.profile import profile_element, profile_match
from deepalign_cli.aligners.steps import best_step
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
        g, _ = _advanced(problem, g, group, visited)
    return g


def planted_element(problem: Gains) -> Element | None:
    """The element that carries one network onto the other where they are nearly equal up to it.

    It is looked for by the units' profiles and, as noise blurs these, from the labelled ends inwards. That
    one of two unrelated networks is not a copy of the other is seen at the first group.
    """
    smallest = min(problem.symmetry.sizes, key=problem.symmetry.sizes.__getitem__, default=None)
    if smallest is None:
        return None
    alike = profile_match(problem, smallest)[1] <= _ALIKE
    element = profile_element(problem) if alike else _close_front(problem)
    if element is None:
        return None
    energy = problem.energy
    apart = [energy - 2 * problem.objective(g) for g in (problem.symmetry.identity(), element)]
    return element if apart[1] < _PLANTED * apart[0] else None


def _close_front(problem: Gains) -> Element | None:
    """The front's element, or None once tensors that it has settled are not nearly equal."""
    g, visited = problem.symmetry.identity(), set[str]()
    for group in problem.symmetry.sizes:
        g, ready = _advanced(problem, g, group, visited)
        pairs = [problem.acted(name, g) for name in ready]
        left = sum(float(torch.linalg.vector_norm(a - b)) ** 2 for a, b in pairs)
        energy = sum(float(torch.linalg.vector_norm(w)) ** 2 for pair in pairs for w in pair)
        if left > _PLANTED * energy:
            return None
    return g


def _advanced(problem: Gains, g: Element, group: str, visited: set[str]) -> tuple[Element, list[str]]:
    """The next group's best step, by the tensors all of whose groups have been visited; and these tensors."""
    visited.add(group)
    ready = [n for n in problem.names[group] if set(problem.symmetry.groups_of(n)) <= visited]
    if not ready:
        return g, ready
    return best_step(problem.partial(group, g, ready)).element(group) @ g, ready
