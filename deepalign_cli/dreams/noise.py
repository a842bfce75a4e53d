"""Where dreams begin: random inputs with the spectrum of natural images and sounds."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_SIDE = 7


def pink_noise(
    shape: tuple[int, ...], count: int, rng: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "count ..."]:
    """Inputs whose amplitude falls as one over the frequency, of mean 0 and variance 1 each.

    The spectrum of natural images (Field 1987). The last two axes of an image are its places, the last of a
    sequence; a row of as many numbers as a square image has is one. Other rows are white.
    """
    side = image_side(shape[0]) if len(shape) == 1 else 0
    if side:
        return pink_noise((shape[0] // side**2, side, side), count, rng, dtype).reshape(count, *shape)
    places = shape[1:][-2:]
    white = torch.randn(count, *shape, generator=rng)
    if not places or max(places) == 1:
        return white.to(dtype)
    axes = tuple(range(-len(places), 0))
    falling = torch.fft.ifftn(torch.fft.fftn(white, dim=axes) / _frequency(places), dim=axes).real
    falling = falling - falling.mean(axes, keepdim=True) * (1 - 1 / math.sqrt(2))  # as much as one wave has
    spread = falling.flatten(1).std(1, correction=0).reshape(-1, *[1] * len(shape))
    noise: Tensor = (falling / spread).to(dtype)
    return noise


def image_side(values: int) -> int:
    """The side of the square image, grey or of three colours, that has so many values; 0 if none has."""
    for colours in (1, 3):
        side = math.isqrt(values // colours)
        if colours * side * side == values and side >= _LEAST_SIDE:
            return side
    return 0


def _frequency(places: tuple[int, ...]) -> Float[Tensor, ...]:
    """The frequency of every coefficient of a discrete Fourier transform; that of the mean is the lowest."""
    lines = [torch.fft.fftfreq(n) for n in places]
    total = torch.stack(torch.meshgrid(*lines, indexing="ij")).square().sum(0).sqrt()
    lowest: Tensor = total.clamp(min=1 / max(places))
    return lowest
