"""Where a descent begins: at the identity, at the front, or at a planted element."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.profile import profile_element, profiles_match
from deepalign_cli.aligners.steps import Matrices, Step, best_step
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.sums import inner_product

_ALIKE = 0.2  # of the mean distance of two units' profiles: matched ones of a planted element are nearer
_PLANTED = 0.1  # of the identity's squared distance: unrelated networks never come this near


@dataclass(frozen=True)
class Start:
    """An element to begin at. Of `settled` groups no step would raise the objective, as is known already.

    `is_near` says that it carries one network nearly onto the other.
    """

    element: Element
    settled: frozenset[str] = frozenset()
    is_near: bool = False


def first_start(problem: Gains) -> Start:
    """The planted element where there is one, else the front's from the labelled ends inwards."""
    element = _by_profiles(problem)
    if element is not None and _is_near(problem, element):
        return Start(element, is_near=True)
    start, is_close = _front(problem, inward(problem))
    return Start(start.element, start.settled, is_close and _is_near(problem, start.element))


def front_start(problem: Gains, order: Sequence[str]) -> Start:
    """One sweep in which a tensor counts only once all its other groups have been visited.

    A gain taken against units that are still in disorder is noise; from the labelled ends inwards there
    is none. On residual networks descents from here end closer than from the identity.
    """
    return _front(problem, order)[0]


def planted_element(problem: Gains) -> Element | None:
    """The element that carries one network onto the other where they are nearly equal up to it.

    It is looked for by the units' profiles and, as noise blurs these, from the labelled ends inwards. That
    one of two unrelated networks is not a copy of the other is seen at the first group.
    """
    element = _by_profiles(problem)
    if element is None:
        start, is_close = _front(problem, inward(problem), gives_up=True)
        element = start.element if is_close else None
    return element if element is not None and _is_near(problem, element) else None


def inward(problem: Gains) -> list[str]:
    """The groups from the labelled ends inwards: next comes that of which the largest part is ready.

    An entry is ready when all other groups of its tensor have been visited.
    """
    symmetry, names = problem.symmetry, problem.names
    size = {name: math.prod(symmetry.shapes[name]) for group in names for name in names[group]}
    groups = {name: set(symmetry.groups_of(name)) for name in size}
    whole = {group: max(1, sum(size[name] for name in names[group])) for group in names}
    ready = {group: sum(size[n] for n in names[group] if len(groups[n]) == 1) for group in names}
    waiting, order = {name: set(found) for name, found in groups.items()}, list[str]()
    left = dict.fromkeys(names)
    while left:
        group = max(left, key=lambda g: ready[g] / whole[g])
        del left[group]
        order.append(group)
        for name in names[group]:
            waiting[name].discard(group)
            if len(waiting[name]) == 1:
                ready[next(iter(waiting[name]))] += size[name]
    return order


def _by_profiles(problem: Gains) -> Element | None:
    """What the units' profiles say, if they are alike; None also where nothing moves."""
    smallest = min(problem.symmetry.sizes, key=problem.symmetry.sizes.__getitem__, default=None)
    if smallest is None or not profiles_match(problem, smallest, _ALIKE):
        return None
    return profile_element(problem)


def _is_near(problem: Gains, element: Element) -> bool:
    """Whether an element leaves little of the squared distance of the networks as they are."""
    energy = problem.energy
    apart = [energy - 2 * problem.objective(g) for g in (problem.symmetry.identity(), element)]
    return apart[1] < _PLANTED * apart[0]


def _front(problem: Gains, order: Sequence[str], *, gives_up: bool = False) -> tuple[Start, bool]:
    """The front, and whether all that it settled is nearly equal; where not, it may give up."""
    g, visited, settled, is_close = problem.symmetry.identity(), set[str](), set[str](), True
    for group in order:
        visited.add(group)
        names = problem.names[group]
        ready = [n for n in names if set(problem.symmetry.groups_of(n)) <= visited]
        if not ready:
            continue
        gains = problem.partial(group, g, ready)
        step = best_step(gains)
        if _moves(step):
            g = step.element(group) @ g
            settled -= problem.neighbours[group]
        if len(ready) == len(names) and problem.is_linear(group) and group not in problem.phased:
            settled.add(group)
        is_close = is_close and _are_close(problem, ready, _matched(problem, group, gains, step, g, ready))
        if gives_up and not is_close:
            break
    return Start(g, frozenset(settled)), is_close and bool(order)


def _moves(step: Step) -> bool:
    turned = step.sign is not None and bool((step.sign < 0).any())
    return turned or not torch.equal(step.perm, torch.arange(len(step.perm)))


def _matched(
    problem: Gains, group: str, gains: Matrices, step: Step, g: Element, names: Sequence[str]
) -> float:
    """The inner product of tensors of the two networks under an element, after a step that led to it."""
    if not problem.is_linear(group):
        return sum(inner_product(*problem.pair(name, g)) for name in names)
    units = torch.arange(len(step.perm))
    value = gains.plain[units, step.perm]
    if gains.flipping is not None and step.sign is not None:
        value = value + gains.flipping[units, step.perm] * step.sign
    return float(value.sum(dtype=torch.float64))


def _are_close(problem: Gains, names: Sequence[str], matched: float) -> bool:
    """Whether tensors whose inner product is `matched` are nearly equal."""
    energy = sum(sum(problem.energy_of(name)) for name in names)
    return energy - 2 * matched <= _PLANTED * energy
