"""Fixed and random coordinates for labelled axes: kernel positions, inputs and classes."""

from __future__ import annotations

import functools
import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

WAVES = 9  # as many as a 3 x 3 kernel has


@functools.cache
def grid_basis(grid: tuple[int, ...]) -> Float[Tensor, "places waves"]:
    """The lowest discrete cosine waves on a grid, orthonormal: all nine of a 3 x 3 kernel.

    A kernel's positions mean the same in every network, so no random numbers are needed to read them;
    wave k means about the same on a grid of any size.
    """
    grid = tuple(n for n in grid if n > 1)
    lines = [_cosines(n) for n in grid]
    waves = sorted(itertools.product(*(range(n) for n in grid)), key=lambda w: (sum(w), max(w, default=0), w))
    columns = []
    for wave in waves[:WAVES]:
        column = torch.ones(1, dtype=torch.float64)
        for line, k in zip(lines, wave, strict=True):
            column = (column[:, None] * line[k]).flatten()
        columns.append(column)
    return torch.stack(columns, dim=1)


def _cosines(n: int) -> Float[Tensor, "n n"]:
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    waves = torch.cos(math.pi * k * (i + 0.5) / n)
    unit: Tensor = waves / waves.norm(dim=1, keepdim=True)
    return unit


def sketch(
    seed: int, labels: int, waves: int, channels: int, like: Tensor
) -> Float[Tensor, "labels waves channels"]:
    """Gaussian coordinates of a labelled axis: the same for every axis of this extent, in every network.

    A seeded random projection keeps inner products up to 1/sqrt(channels) (Johnson and Lindenstrauss).
    """
    rng = torch.Generator().manual_seed(seed * 1_000_003 + labels * 1009 + waves)
    drawn = torch.randn(labels, waves, channels, generator=rng)
    return drawn.to(like.device, like.dtype)
