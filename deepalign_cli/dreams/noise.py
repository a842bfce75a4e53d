"""Where dreams begin: random inputs with the spectrum of natural images and sounds."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.images import image_shape, pink


def pink_noise(
    shape: tuple[int, ...], count: int, rng: torch.Generator, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "count ..."]:
    """Inputs whose amplitude falls as one over the frequency, of mean 0 and variance 1 each.

    The last two axes of an image are its places, the last of a sequence; a row of as many numbers as a
    square image has is one. Other rows are white.
    """
    image = image_shape(shape[0]) if len(shape) == 1 else None
    if image:
        return pink_noise(image, count, rng, dtype).reshape(count, *shape)
    places = shape[1:][-2:]
    white = torch.randn(count, *shape, generator=rng)
    if not places or max(places) == 1:
        return white.to(dtype)
    falling = pink(white, len(places))
    mean = falling.mean(tuple(range(-len(places), 0)), keepdim=True)
    falling = falling - mean * (1 - 1 / math.sqrt(2))  # as much as one wave has
    spread = falling.flatten(1).std(1, correction=0).reshape(-1, *[1] * len(shape))
    noise: Tensor = (falling / spread).to(dtype)
    return noise
