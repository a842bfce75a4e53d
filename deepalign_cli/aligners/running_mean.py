"""Many networks moved onto their running mean: MergeMany (Ainsworth et al. 2023, algorithm 3), by any method.

Each network in turn is aligned, by the method itself, to the mean of all others as they lie. `universal` does
the same by steps of weight matching alone, which never loses what was reached; here a method begins anew each
time, so that what it predicts, or sees on data, counts. So the best round is kept, by the objective of both,
|sum_i g_i W_i|^2.

One sum of all networks is kept, in float64: each network in turn is taken out of it, matched to the rest, and
added again. It is summed anew after every round, so that rounding does not pile up and a round that changes
nothing reaches the same objective to the bit. A round moves 3 N networks, and means made anew N (N - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deepalign_cli.aligners.universe import counts_in_objective, squares
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import widened

# What carries the second network onto the first.
Matching = Callable[[Weights, Weights, Progress], Element]

_ROUNDS = 4


def onto_mean(
    symmetry: Symmetry, networks: Sequence[Weights], start: Sequence[Element], match: Matching,
    progress: Progress = SILENT,
) -> tuple[list[Element], list[float]]:  # fmt: skip
    """The elements that carry every network onto the first, and the objective after every kept round.

    `start` has one for each; the first network's is the identity. The first round that gains nothing is the
    last, and is not kept.
    """
    kept, found = list(start), list(start)
    total = _summed(symmetry, networks, found)
    objective = [_objective(symmetry, total)]
    share = 1 / (_ROUNDS * len(networks))
    for _ in range(_ROUNDS):
        for i, own in enumerate(networks):
            _add(symmetry, total, found[i], own, -1)
            mean = _mean(total, len(networks) - 1, networks[1 if i == 0 else 0])
            found[i] = match(mean, own, progress.part(share))
            _add(symmetry, total, found[i], own, 1)
        total = _summed(symmetry, networks, found)
        reached = _objective(symmetry, total)
        if reached <= objective[-1]:
            break
        objective.append(reached)
        kept = list(found)
    first = kept[0].inverse()
    return [first @ g for g in kept], objective


def _summed(symmetry: Symmetry, networks: Sequence[Weights], found: Sequence[Element]) -> dict[str, Tensor]:
    """The sum in float64 of all networks under their elements, of what is no whole number."""
    total = {
        name: torch.zeros(w.shape, dtype=torch.float64)
        for name, w in networks[0].items()
        if w.is_floating_point()
    }
    for g, one in zip(found, networks, strict=True):
        _add(symmetry, total, g, one, 1)
    return total


def _add(symmetry: Symmetry, total: Weights, g: Element, one: Weights, sign: int) -> None:
    """Add one network under its element to a sum, or with the sign -1 take it out again, in place."""
    for name, t in total.items():
        t.add_(symmetry.act(g, name, widened(one[name])), alpha=sign)


def _mean(total: Weights, count: int, one: Weights) -> dict[str, Tensor]:
    """The mean of `count` networks from their sum, in the type that arithmetic on `one` of them is done in.

    Whole numbers are that network's.
    """
    mean = dict(one)
    for name, t in total.items():
        mean[name] = t.to(widened(one[name].new_empty(0)).dtype) / count
    return mean


def _objective(symmetry: Symmetry, total: Weights) -> float:
    return squares({name: w for name, w in total.items() if counts_in_objective(symmetry, name, w)})
