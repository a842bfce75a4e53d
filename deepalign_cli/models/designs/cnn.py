"""Plain convolutional networks: 3x3 convolutions, perhaps BatchNorm, max-pools, one linear head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import (
    ACTIVATIONS,
    Statistics,
    batch_norm,
    check_activation,
    conv_init,
    linear,
    linear_init,
    norm_init,
)
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class CNN:
    """`conv1`, (`bn1`), activation, ...; a max-pool of 2 behind the layers in `pools` (from 1), then `fc`.

    `channels` begins with the input's; every convolution moves by `stride`. The head reads the flattened
    image, or (`average`) its mean. In a `separable` network every convolution but the first is two: one on
    each channel by itself, then 1x1.
    """

    channels: tuple[int, ...]
    size: int
    classes: int = 10
    norm: bool = False
    average: bool = False
    pools: tuple[int, ...] = (1, 2)
    activation: str = "relu"
    separable: bool = False
    stride: int = 1

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("there are no channels")
        check_activation(self.activation)
        if self.stride < 1 or (self.stride > 1 and (self.separable or not self.average)):
            raise ValueError("a stride above 1 needs average = true, and no separable convolutions")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.channels[0], self.size, self.size)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for number, (c_in, c_out, kernel, _) in enumerate(self._convolutions(), 1):
            weights |= conv_init(rng, f"conv{number}", c_out, c_in, kernel, bias=not self.norm)
            weights |= norm_init(f"bn{number}", c_out) if self.norm else {}
        side = 1 if self.average else self.size // 2 ** len(self.pools)
        return weights | linear_init(rng, "fc", self.classes, self.channels[-1] * side**2)

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        for number, (c_in, _, kernel, pooled) in enumerate(self._convolutions(), 1):
            w, bias = weights[f"conv{number}.weight"], weights.get(f"conv{number}.bias")
            x = functional.conv2d(x, w, bias, self.stride, kernel // 2, groups=x.shape[1] // c_in)
            x = batch_norm(weights, f"bn{number}", x, statistics) if self.norm else x
            x = ACTIVATIONS[self.activation](x)
            x = functional.max_pool2d(x, 2) if pooled else x
        return linear(weights, "fc", x.mean((2, 3)) if self.average else x.flatten(1))

    def _convolutions(self) -> Iterator[tuple[int, int, int, bool]]:
        """Channels in (of one group) and out, kernel, and whether a pool follows, of every convolution."""
        for layer, (c_in, c_out) in enumerate(pairwise(self.channels), 1):
            split = self.separable and layer > 1
            if split:
                yield 1, c_in, 3, False
            yield c_in, c_out, 1 if split else 3, layer in self.pools
