"""Many networks moved onto their running mean: MergeMany (Ainsworth et al. 2023, algorithm 3), by any method.

Each network in turn is aligned, by the method itself, to the mean of all others as they lie. `universal` does
the same by steps of weight matching alone, which never loses what was reached; here a method begins anew each
time, so that what it predicts, or sees on data, counts. So the best round is kept, by the objective of both,
|sum_i g_i W_i|^2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from deepalign_cli.aligners.universe import squares, summed
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
    objective = [squares(summed(symmetry, networks, kept))]
    share = 1 / (_ROUNDS * len(networks))
    for _ in range(_ROUNDS):
        for i, own in enumerate(networks):
            others = [j for j in range(len(networks)) if j != i]
            mean = _mean(symmetry, [networks[j] for j in others], [found[j] for j in others])
            found[i] = match(mean, own, progress.part(share))
        reached = squares(summed(symmetry, networks, found))
        if reached <= objective[-1]:
            break
        objective.append(reached)
        kept = list(found)
    first = kept[0].inverse()
    return [first @ g for g in kept], objective


def _mean(symmetry: Symmetry, networks: Sequence[Weights], found: Sequence[Element]) -> dict[str, Tensor]:
    """The mean of networks under their elements; of whole numbers the first's."""
    mean: dict[str, Tensor] = {}
    for name, w in networks[0].items():
        if not w.is_floating_point():
            mean[name] = w
            continue
        moved = [symmetry.act(g, name, widened(one[name])) for g, one in zip(found, networks, strict=True)]
        mean[name] = torch.stack(moved).mean(0)
    return mean
