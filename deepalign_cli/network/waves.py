"""Fixed and random coordinates for labelled axes: kernel positions, inputs and classes."""

from __future__ import annotations

import functools
import itertools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.images import image_shape

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

    A seeded random projection keeps inner products up to 1/sqrt(channels) (Johnson and Lindenstrauss). An
    axis of n x n places, or 3 x n x n, is most often an image, in which what is near is alike: on such an
    axis half of the columns are smooth fields.
    """
    rng = torch.Generator().manual_seed(seed * 1_000_003 + labels * 1009 + waves)
    drawn = torch.randn(labels, waves, channels, generator=rng)
    white, image = white_columns(labels, waves, channels), image_shape(labels)
    if image and white < channels:
        drawn[:, 0, white:] = _smoothed(drawn[:, 0, white:], image)
    return drawn.to(like.device, like.dtype)


def white_columns(labels: int, waves: int, channels: int) -> int:
    """How many of a sketch's columns, the first ones, are not smoothed."""
    return channels // 2 if waves == 1 and image_shape(labels) else channels


_REACHES = (1 / 28, 1 / 14, 1 / 7)  # of the image's side: how far its fields are alike


def _smoothed(
    white: Float[Tensor, "labels columns"], image: tuple[int, int, int]
) -> Float[Tensor, "labels columns"]:
    """White columns made into fields of variance one that reach over one of `_REACHES` in turn."""
    side = image[-1]
    images = white.T.reshape(-1, *image)
    images = images.mean(1, keepdim=True) * images.shape[1] ** 0.5 + images / 2  # colours are alike too
    places = torch.arange(side, dtype=torch.float32)
    made = torch.empty_like(images)
    for turn, reach in enumerate(_REACHES):
        blur = torch.exp(-((places[:, None] - places) ** 2) / (reach * side) ** 2)
        blur = blur / blur.norm(dim=1, keepdim=True)
        made[turn :: len(_REACHES)] = blur @ images[turn :: len(_REACHES)] @ blur.T
    return made.reshape(white.shape[1], -1).T / made.std()
