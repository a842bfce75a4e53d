"""Weight matching by coordinate descent over all groups (Ainsworth et al. 2023, algorithm 1).

The objective <A, g B> rises with every accepted step, so the weight distance falls. The order in
which groups are visited decides which local optimum is found; restarts try several and keep the
element with the smallest distance.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.canonical import canonical_scales
from deepalign_cli.aligners.gains import Counted, Gains
from deepalign_cli.aligners.starts import Start, first_start, front_start
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_trained

_SWEEPS = 100
_SHARE = 0.5  # of what is left of the work that a sweep is taken to do
_RESOLUTION = 1e-7  # of |A| |B|: a smaller rise is rounding


class WeightMatching:
    """Weight matching for any spec.

    `restarts` None chooses by the cost of one run. `counted` says which tensors enter the objective;
    all that the group moves do move.
    """

    def __init__(self, restarts: int | None = None, counted: Counted = is_trained) -> None:
        self.restarts, self.counted = restarts, counted

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        before = distance(symmetry, reference, moving)
        after, element, objective, details = self._closest(symmetry, reference, moving, rng, progress)
        seconds = time.perf_counter() - started
        return Alignment(symmetry, element, "weights", seconds, before, after, tuple(objective), details)

    def _closest(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, rng: torch.Generator,
        progress: Progress,
    ) -> tuple[float, Element, list[float], dict[str, object]]:  # fmt: skip
        """The closer of two: matched in canonical scales, where there are any, and matched as they are.

        Its distance comes first.
        """
        tried = []
        for scaled in (True, False) if symmetry.stretching else (False,):
            nothing = Element({})
            own = canonical_scales(symmetry, reference) if scaled else nothing
            other = canonical_scales(symmetry, moving) if scaled else nothing
            a, b = Acted(symmetry, own, reference), Acted(symmetry, other, moving)
            stage = progress.part(1 / (1 + bool(symmetry.stretching)), "weight matching")
            found, objective, restarts = self._best(Gains(symmetry, a, b, self.counted), rng, stage)
            element = own.inverse() @ found @ other
            steps = len(objective) - 1
            details: dict[str, object] = {"restarts": restarts, "steps": steps, "scaled": scaled}
            tried.append((distance(symmetry, reference, moving, element), element, objective, details))
        return min(tried, key=lambda one: one[0])

    def _best(
        self, problem: Gains, rng: torch.Generator, progress: Progress
    ) -> tuple[Element, list[float], int]:
        """The best of several descents: two in the spec's order, the others in random ones.

        They begin at fronts and at the identity in turn; the only one, or that of a copy, at the first front.
        """
        first = first_start(problem)
        groups = list(problem.symmetry.sizes)
        restarts = 1 if first.is_near else self.restarts or default_restarts(problem.symmetry)
        found = []
        for attempt in range(restarts):
            order = groups if attempt < 2 else _shuffled(groups, rng)
            start = first if attempt == 1 or restarts == 1 else Start(problem.symmetry.identity())
            start = front_start(problem, order) if attempt > 1 and attempt % 2 else start
            stage = progress.part(1 / restarts)
            visits = order if attempt < 2 else None
            found.append(descend(problem, start.element, rng, visits, stage, start.settled))
        return *max(found, key=lambda pair: pair[1][-1]), restarts


def default_restarts(symmetry: Symmetry) -> int:
    """10 for small networks, 1 where one run takes seconds."""
    cost = sum(float(n) ** 3 for n in symmetry.sizes.values())
    return 10 if cost < 2e7 else 5 if cost < 1e8 else 1


def descend(
    problem: Gains, start: Element, rng: torch.Generator, order: Sequence[str] | None = None,
    progress: Progress = SILENT, settled: frozenset[str] = frozenset(),
) -> tuple[Element, list[float]]:  # fmt: skip
    """Coordinate descent from `start`: the element, and the objective after every accepted step.

    Each sweep visits the groups in `order`, or in a random order; a group is passed over while none of
    its neighbours has moved since it was last solved, as those that are `settled` were at the start.
    """
    groups = list(problem.symmetry.sizes)
    g, objective = start, [problem.objective(start)]
    least, waiting = _RESOLUTION * problem.scale, set(groups) - settled
    for sweep in range(_SWEEPS):
        for group in order or _shuffled(groups, rng):
            progress(_SHARE ** (sweep + 1) / len(groups))  # how many sweeps there will be is not known
            if group not in waiting:
                continue
            waiting.discard(group)
            moved, rise = _try(problem, group, g)
            if rise > least:
                g = moved
                objective.append(objective[-1] + rise)
                waiting |= problem.neighbours[group]
                waiting |= set() if problem.is_linear(group) else {group}
        if not waiting:
            break
    return g, objective


def _try(problem: Gains, group: str, g: Element) -> tuple[Element, float]:
    step = problem.best_step(group, g)
    moved = step.element(group) @ g
    if problem.is_linear(group):
        return moved, step.rise
    return moved, problem.objective(moved, group) - problem.objective(g, group)


def _shuffled(groups: Sequence[str], rng: torch.Generator) -> list[str]:
    return [groups[i] for i in torch.randperm(len(groups), generator=rng)]
