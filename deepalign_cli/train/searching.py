"""Finding a refiner's few weights by search, on what they are for: the midpoint loss at hard permutations.

The loss at soft permutations, along which gradients flow, falls without the loss at the rounded ones
falling with it: a refiner trained on it was no better than its starting weights. A handful of weights can
be searched for directly.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepalign_cli.assignment import assign
from deepalign_cli.integers import check_integers
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.refiner import Refiner, RefinerConfig
from deepalign_cli.network.saved import save_network
from deepalign_cli.network.similarity import similarities
from deepalign_cli.network.strengths import Strengths, strengths
from deepalign_cli.symmetry.element import Element
from deepalign_cli.train.log import append, finite
from deepalign_cli.train.loop import BEST, LOG, Plan, check_pool
from deepalign_cli.train.objectives import Stack
from deepalign_cli.train.pool import PoolEntry
from deepalign_cli.train.recipes import make
from deepalign_cli.train.validation import FLOOR

_SKETCHES = list(range(1, 9))  # as many as at run time
_STEP, _LEAST_STEP, _MOST_STEP = 0.35, 0.1, 0.5


@dataclass(frozen=True)
class Search:
    """How long to search, on how many of the last training images, from which seed."""

    trials: int = 100
    images: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        check_integers(self, {"trials": 1, "images": 1, "seed": 0})


@dataclass(frozen=True)
class _Pair:
    """Two training networks as the search needs them again and again."""

    entry: PoolEntry
    member: int
    a: Stack
    b: Stack
    read: tuple[Strengths, Strengths]
    logits: dict[str, Tensor]
    ends: float


def add_refiner(model: DeepAlign, table: Mapping[str, Any]) -> Refiner:
    """Put a fresh refiner behind an encoder, which is not to change any more.

    Raises:
        UsageError: the refiner's table is not usable.
    """
    model.requires_grad_(False)
    model.refiner = Refiner(make(RefinerConfig, table, "refiner"))
    return model.refiner


def write_searched(
    model: DeepAlign, pool: Sequence[PoolEntry], plan: Search, out: Path, advance: Callable[[int, str], None]
) -> float:
    """Search, writing `log.jsonl` meanwhile and `best.safetensors` at the end; returns the score reached.

    Nothing is kept where no score was finite. `advance` is told each trial's number and, in words, how far
    the search has come.

    Raises:
        UsageError: the families cannot be used. OutputError: a file cannot be written.
    """
    check_pool(pool, Plan())
    out.mkdir(parents=True, exist_ok=True)
    started, lowest = time.perf_counter(), math.inf

    def log(trial: int, least: float) -> None:
        nonlocal lowest
        seconds = round(time.perf_counter() - started, 3)
        line = {"trial": trial, "seconds": seconds, "score": finite(least), "best": least < lowest}
        append(out / LOG, line)
        lowest = least
        if trial:
            advance(trial, f"score {least:.3f}")

    reached = search(model, pool, plan, log)
    if math.isfinite(reached):
        facts = {"trials": str(plan.trials), "score": f"{reached:.6g}"}
        save_network(out / BEST, model, facts, force=True)
    return reached


@torch.no_grad()
def search(
    model: DeepAlign, pool: Sequence[PoolEntry], plan: Search, advance: Callable[[int, float], None]
) -> float:
    """Improve the weights of the model's refiner in place, and return the score that they reach.

    A (1 + 1) evolution strategy: some weights are moved at random, and the move is kept if the mean
    logarithm of the midpoint's excess falls, over the first training pair of every family. `advance` is told
    the least score so far: of the weights as they are at 0, and then after every trial.

    Raises:
        ValueError: the model has no refiner.
    """
    refiner = model.refiner
    if refiner is None:
        raise ValueError("this aligner has no refiner")
    rng, step = random.Random(plan.seed), _STEP
    pairs = [_pair(model, entry, plan.images) for entry in pool]
    best = [float(w) for linear in _rounds(refiner) for w in linear]
    least = _score(refiner, pairs, plan.images)
    advance(0, least)
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


def _rounds(refiner: Refiner) -> list[Tensor]:
    """The weights of the features, round by round."""
    return [step.get_parameter("linear") for step in refiner.rounds]


def _set(refiner: Refiner, weights: Sequence[float]) -> None:
    rounds = _rounds(refiner)
    for linear, row in zip(rounds, torch.tensor(weights).reshape(len(rounds), -1), strict=True):
        linear.copy_(row)


def _pair(model: DeepAlign, entry: PoolEntry, images: int) -> _Pair:
    member = entry.family.member[entry.train]
    first, second = entry.train[member == member[0]][:2].tolist()
    a, b = entry.one(first), entry.one(second)
    similar = similarities(*(model.encode(entry.graph, w, _SKETCHES) for w in (a, b)))
    ends = sum(_loss(entry, w, first, images) for w in (a, b)) / 2
    return _Pair(
        entry, first, a, b, (strengths(entry.graph, a), strengths(entry.graph, b)),
        {g: model.temperature * s.mean(0) for g, s in similar.items()}, ends,
    )  # fmt: skip


def _score(refiner: Refiner, pairs: Sequence[_Pair], images: int) -> float:
    total = 0.0
    for pair in pairs:
        refined = refiner(pair.entry.graph, *pair.read, pair.logits)
        element = Element({g: assign(x) for g, x in refined})
        one = {n: w[0] for n, w in pair.b.items()}
        moved = pair.entry.graph.symmetry.apply(element, one)
        middle = {n: (pair.a[n] + w.unsqueeze(0)) / 2 for n, w in moved.items()}
        excess = _loss(pair.entry, middle, pair.member, images) - pair.ends
        total += math.log((max(0.0, excess) if excess == excess else math.inf) + FLOOR)
    return total / len(pairs)


def _loss(entry: PoolEntry, weights: Stack, index: int, images: int) -> float:
    """The loss on the last training images, which short trainings saw no more often than others."""
    x, y = entry.examples.train_x, entry.examples.train_y
    return entry.loss(weights, index, *((x, y) if entry.family.task.field else (x[-images:], y[-images:])))
