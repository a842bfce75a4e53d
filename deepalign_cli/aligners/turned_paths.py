"""Rotations refined on the loss of the network half-way: gradients find what matching cannot see.

Every group's rotation Q is followed by a small one. With S = 1 + D, the gradient of the loss at D = 0 is
made skew, which is the direction of rotations; Adam turns it into a step; and S goes back to the nearest
rotation of the group's kind (a retraction, Absil et al. 2008). Permutations stay, and so do groups of a kind
that jumps. The midpoint is judged as this goes on, and the best is kept, so that there the result is no worse
than the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import all_widened
from deepalign_cli.symmetry.turns import Turn

RATE = 0.04  # of Adam; falls as half a cosine
_EXAMPLES = 64  # in a step: more steps of fewer examples are as good, or better, at the same price
_JUDGED = 10  # times


@runtime_checkable
class Goal(Protocol):
    """A loss of a network on examples given by their places, and on ones that are always the same.

    `batch` is how many the network takes at once, the length how many there are.
    """

    @property
    def batch(self) -> int: ...

    def __len__(self) -> int: ...

    def __call__(self, weights: Weights, places: Tensor) -> Tensor: ...

    def judge(self, weights: Weights) -> float: ...


@dataclass(frozen=True)
class Refined:
    """The best element, and the goal's losses of the start and of it."""

    element: Element
    before: float
    after: float


def refined_turns(
    symmetry: Symmetry, reference: Weights, moving: Weights, start: Element, goal: Goal, steps: int,
    rng: torch.Generator, progress: Progress = SILENT, *, rate: float = RATE,
) -> Refined:  # fmt: skip
    """The element with its rotations moved downhill on a loss of the mean of both networks."""
    a, b = (all_widened(weights) for weights in (reference, moving))
    stage = progress.part(1.0, "turning by gradients", steps)
    element, best, least = start, start, goal.judge(midpoint(symmetry, a, b, start))
    first, count = least, min(_EXAMPLES, goal.batch, len(goal))
    smooth = {group: turn for group, turn in start.turn.items() if not symmetry.kinds[group].jumps}
    moves = {group: torch.zeros_like(turn.matrix, requires_grad=True) for group, turn in smooth.items()}
    if not moves:
        return Refined(start, first, first)
    optimiser = torch.optim.Adam(moves.values(), lr=rate)
    for step in range(1, steps + 1):
        places = torch.randint(len(goal), (count,), generator=rng)
        value = goal(midpoint(symmetry, a, b, _after(element, moves)), places)
        if not bool(value.isfinite()):
            break  # from here no direction leads down
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        element = _stepped(symmetry, element, moves, optimiser)
        if step % max(1, steps // _JUDGED) == 0 or step == steps:
            loss = goal.judge(midpoint(symmetry, a, b, element))
            if loss < least:
                best, least = element, loss
        stage()
    return Refined(best, first, least)


def midpoint(symmetry: Symmetry, a: Weights, b: Weights, g: Element) -> dict[str, Tensor]:
    """The mean of A and B under an element."""
    return {
        name: torch.lerp(w, symmetry.act(g, name, b[name]).to(w.dtype), 0.5) if w.is_floating_point() else w
        for name, w in a.items()
    }


def _after(element: Element, moves: Mapping[str, Tensor]) -> Element:
    """The element followed by (1 + D) in every group that turns."""
    turns = {group: element.turn[group] for group in moves}
    moved = {g: Turn(turn.matrix + moves[g] @ turn.matrix, turn.within) for g, turn in turns.items()}
    return replace(element, turn={**element.turn, **moved})


def _stepped(
    symmetry: Symmetry, element: Element, moves: Mapping[str, Tensor], optimiser: torch.optim.Optimizer
) -> Element:
    """The element after one step, from which the next moves are counted again."""
    for move in moves.values():
        if move.grad is not None:
            move.grad = move.grad - move.grad.mT
    optimiser.step()
    turns = dict(element.turn)
    with torch.no_grad():
        for group, move in moves.items():
            small = torch.eye(move.shape[-1], dtype=move.dtype) + move
            turn = element.turn[group]
            turns[group] = Turn(symmetry.kinds[group].nearest(small) @ turn.matrix, turn.within)
            move.zero_()
    return replace(element, turn=turns)
