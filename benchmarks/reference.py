"""A straightforward weight matching by coordinate descent with scipy, to measure ours against.

Written the plain way and on purpose without anything of the package's aligners: every gain from all
tensors, every assignment from scratch, sweeps in random order until nothing rises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Layout = Mapping[str, tuple[str | None, ...]]  # for each tensor the group on each axis


def prepared(
    axes: Mapping[str, Sequence[str]], weights: Mapping[str, Tensor]
) -> tuple[Layout, dict[str, Tensor]]:
    """Axis texts such as `10`, `k`, `k*9` as one group or None an axis; a flattened axis is unfolded."""
    layout, out = {}, {}
    for name, texts in axes.items():
        groups: list[str | None] = []
        shape: list[int] = []
        for text, extent in zip(texts, weights[name].shape, strict=True):
            group, star, inner = text.partition("*")
            groups += [None if text.isdigit() else group] + ([None] if star else [])
            shape += [extent // int(inner), int(inner)] if star else [extent]
        layout[name], out[name] = tuple(groups), weights[name].reshape(shape).float()
    return layout, out


def permuted(
    name: str, w: Tensor, layout: Layout, perm: Mapping[str, Tensor], skip: int | None = None
) -> Tensor:
    """The tensor with all axes but `skip` permuted."""
    for axis, group in enumerate(layout[name]):
        if group is not None and axis != skip:
            w = w.index_select(axis, perm[group])
    return w


def objective(
    layout: Layout, a: Mapping[str, Tensor], b: Mapping[str, Tensor], perm: Mapping[str, Tensor]
) -> float:
    """sum_t <A_t, (g B)_t>."""
    return sum(float((a[n] * permuted(n, b[n], layout, perm)).sum(dtype=torch.float64)) for n in layout)


def weight_matching(
    layout: Layout, a: Mapping[str, Tensor], b: Mapping[str, Tensor], seed: int
) -> tuple[dict[str, Tensor], int]:
    """The permutations and the number of sweeps of one descent from the identity."""
    places: dict[str, list[tuple[str, int]]] = {}
    for name, groups in layout.items():
        for axis, group in enumerate(groups):
            if group is not None:
                places.setdefault(group, []).append((name, axis))
    perm = {g: torch.arange(a[p[0][0]].shape[p[0][1]]) for g, p in places.items()}
    rng, names = np.random.default_rng(seed), list(places)
    sweep, progress = 0, True
    while progress and sweep < 100:
        sweep, progress = sweep + 1, False
        for group in rng.permutation(names):
            gain: Tensor | float = 0.0
            for name, axis in places[group]:
                left = a[name].movedim(axis, 0).reshape(len(perm[group]), -1)
                right = (
                    permuted(name, b[name], layout, perm, skip=axis)
                    .movedim(axis, 0)
                    .reshape(len(perm[group]), -1)
                )
                gain = gain + left @ right.T
            assert isinstance(gain, Tensor)
            _, columns = linear_sum_assignment(gain.numpy(), maximize=True)
            new = torch.from_numpy(columns)
            units = torch.arange(len(new))
            if float(gain[units, new].double().sum() - gain[units, perm[group]].double().sum()) > 1e-4:
                perm[group], progress = new, True
    return perm, sweep
