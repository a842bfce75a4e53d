"""Judging an aligner on held-out pairs: the midpoint's loss above the mean of the ends'."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from deepalign_cli.assignment import assign
from deepalign_cli.train.objectives import Stack, carried
from deepalign_cli.train.pool import PoolEntry

FLOOR = 0.005  # added to every barrier before ratios and logarithms are taken
_IMAGES = 1000

Predict = Callable[[PoolEntry, Stack, Stack], Mapping[str, Tensor]]  # similarities, with a batch axis of one


@torch.no_grad()
def validate(pool: Sequence[PoolEntry], predict: Predict) -> dict[str, float]:
    """For every family the excess of the midpoint's loss on test data, mean over its held-out pairs."""
    return {entry.name: _excess(entry, predict) for entry in pool}


def score(excess: Mapping[str, float]) -> float:
    """The mean logarithm of the excesses, each at least 0, plus the floor; infinite if one is not finite."""
    if not all(math.isfinite(x) for x in excess.values()):
        return math.inf
    return sum(math.log(max(0.0, x) + FLOOR) for x in excess.values()) / len(excess)


def _excess(entry: PoolEntry, predict: Predict) -> float:
    excesses = []
    for i, j in entry.held.reshape(-1, 2).tolist():
        a, b = entry.one(i), entry.one(j)
        perms = {g: assign(s[0]) for g, s in predict(entry, a, b).items()}
        hard = {g: torch.eye(len(p))[p].unsqueeze(0) for g, p in perms.items()}
        moved = carried(entry.graph.symmetry, hard, b)
        middle = {n: (a[n] + moved[n]) / 2 for n in a}
        ends = [_loss(entry, w, i) for w in (a, b, middle)]
        excesses.append(ends[2] - (ends[0] + ends[1]) / 2)
    return sum(excesses) / len(excesses)


def _loss(entry: PoolEntry, weights: Stack, index: int) -> float:
    """The loss on test images; norms use the batch's statistics, so that they fit every network."""
    x, y = entry.examples.test_x[:_IMAGES], entry.examples.test_y
    return entry.loss(weights, index, x, y if entry.family.task.field else y[:_IMAGES])
