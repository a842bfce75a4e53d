"""What is known of any image: which rows of numbers may be one, and how noise is made as smooth as one."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST_SIDE = 7


def image_shape(values: int) -> tuple[int, int, int] | None:
    """The colours, height and width of the square image of so many values, grey or of three colours.

    None if there is no such image, or its sides are shorter than 7.

    >>> image_shape(784), image_shape(3072), image_shape(50)
    ((1, 28, 28), (3, 32, 32), None)
    """
    for colours in (1, 3):
        side = math.isqrt(values // colours)
        if colours * side * side == values and side >= _LEAST_SIDE:
            return colours, side, side
    return None


def pink(white: Float[Tensor, "*axes"], places: int) -> Float[Tensor, "*axes"]:
    """White noise over the last `places` axes, with amplitudes that fall as one over the frequency.

    The spectrum of natural images (Field 1987). The mean falls as the lowest frequency does.
    """
    axes = tuple(range(-places, 0))
    coefficients = torch.fft.fftn(white, dim=axes) / _frequency(tuple(white.shape[-places:]))
    noise: Tensor = torch.fft.ifftn(coefficients, dim=axes).real
    return noise


def _frequency(places: tuple[int, ...]) -> Float[Tensor, ...]:
    """The frequency of every coefficient of a discrete Fourier transform; that of the mean is the lowest."""
    lines = [torch.fft.fftfreq(n) for n in places]
    total = torch.stack(torch.meshgrid(*lines, indexing="ij")).square().sum(0).sqrt()
    lowest: Tensor = total.clamp(min=1 / max(places))
    return lowest
