"""Finding a refiner's few weights by search, on what they are for: the loss half-way at hard permutations.

The loss at soft permutations, along which gradients flow, falls without the loss at the rounded ones
falling with it: a refiner trained on it was no better than its starting weights. A handful of weights can
be searched for directly.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepalign_cli.assignment import assign
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.refiner import Refiner
from deepalign_cli.network.strengths import Strengths, strengths
from deepalign_cli.symmetry.element import Element
from deepalign_cli.train.losses import Stack
from deepalign_cli.train.pool import Entry
from deepalign_cli.train.refining import predicted
from deepalign_cli.train.validation import FLOOR
from deepalign_cli.train.zoo import losses

_STEP, _LEAST_STEP, _MOST_STEP = 0.35, 0.1, 0.5


@dataclass(frozen=True)
class Search:
    """How long to search, on how many of the last training images, from which seed."""

    trials: int = 100
    images: int = 400
    seed: int = 0


@dataclass(frozen=True)
class _Pair:
    """Two training networks as the search needs them again and again."""

    entry: Entry
    member: int
    a: Stack
    b: Stack
    read: tuple[Strengths, Strengths]
    logits: dict[str, Tensor]
    ends: float


@torch.no_grad()
def search(
    model: DeepAlign, pool: Sequence[Entry], plan: Search, advance: Callable[[int, float], None]
) -> float:
    """Improve the weights of the model's refiner in place, and return the score that they reach.

    A (1 + 1) evolution strategy: some weights are moved at random, and the move is kept if the mean
    logarithm of the excess half-way falls, over the first training pair of every family.
    """
    refiner = model.refiner
    if refiner is None:
        raise ValueError("this aligner has no refiner")
    rng, step = random.Random(plan.seed), _STEP
    pairs = [_pair(model, entry, plan.images) for entry in pool]
    best = [float(w) for w in _weights(refiner)]
    least = _score(refiner, pairs, plan.images)
    for trial in range(plan.trials):
        moved = [w + (step * rng.gauss(0, 1) if rng.random() < 0.5 else 0.0) for w in best]
        _set(refiner, moved)
        value = _score(refiner, pairs, plan.images)
        if value < least:
            best, least, step = moved, value, min(_MOST_STEP, 1.15 * step)
        else:
            step = max(_LEAST_STEP, 0.97 * step)
        advance(trial + 1, least)
    _set(refiner, best)
    return least


def _weights(refiner: Refiner) -> Tensor:
    return torch.cat([step.linear for step in refiner.rounds])


def _set(refiner: Refiner, weights: Sequence[float]) -> None:
    made = torch.tensor(weights).reshape(len(refiner.rounds), -1)
    for step, row in zip(refiner.rounds, made, strict=True):
        step.linear.copy_(row)


def _pair(model: DeepAlign, entry: Entry, images: int) -> _Pair:
    member = entry.family.member[entry.train]
    first, second = (int(i) for i in entry.train[member == member[0]][:2])
    a, b = entry.stack(torch.tensor([first])), entry.stack(torch.tensor([second]))
    similar = predicted(model, entry, a, b)
    ends = sum(_loss(entry, w, first, images) for w in (a, b)) / 2
    return _Pair(
        entry, first, a, b, (strengths(entry.graph, a), strengths(entry.graph, b)),
        {g: model.temperature * s for g, s in similar.items()}, ends,
    )  # fmt: skip


def _score(refiner: Refiner, pairs: Sequence[_Pair], images: int) -> float:
    total = 0.0
    for pair in pairs:
        logits = refiner(pair.entry.graph, *pair.read, pair.logits)
        element = Element({g: assign(x[0]) for g, x in logits.items()})
        one = {n: w[0] for n, w in pair.b.items()}
        moved = pair.entry.graph.symmetry.apply(element, one)
        middle = {n: (pair.a[n] + w.unsqueeze(0)) / 2 for n, w in moved.items()}
        excess = _loss(pair.entry, middle, pair.member, images) - pair.ends
        total += math.log((max(0.0, excess) if excess == excess else math.inf) + FLOOR)
    return total / len(pairs)


def _loss(entry: Entry, weights: Stack, index: int, images: int) -> float:
    """The loss on the last training images, which the shorter trainings saw no oftener than others."""
    x, y = entry.examples.train_x, entry.examples.train_y
    if entry.family.task.field:
        y = y[entry.family.member[index]]
    else:
        x, y = x[-images:], y[-images:]
    return float(losses(entry.family.design, entry.family.task, weights, x[None], y[None]))
