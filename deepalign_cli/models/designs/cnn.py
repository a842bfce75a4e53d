"""Plain convolutional networks: 3x3 convolutions, perhaps BatchNorm, max-pools, one linear head."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import (
    ACTIVATIONS,
    Statistics,
    batch_norm,
    conv_init,
    linear,
    linear_init,
    norm_init,
)
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class CNN:
    """`conv1`, (`bn1`), activation, ...; a max-pool of 2 behind the layers in `pools` (from 1), then `fc`.

    `channels` begins with the input's. The head reads the flattened image, or (`average`) its mean.
    """

    channels: tuple[int, ...]
    size: int
    classes: int = 10
    norm: bool = False
    average: bool = False
    pools: tuple[int, ...] = (1, 2)
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not self.channels:
            raise ValueError("there are no channels")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"there is no activation '{self.activation}'")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.channels[0], self.size, self.size)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for i, (c_in, c_out) in enumerate(pairwise(self.channels), 1):
            weights |= conv_init(rng, f"conv{i}", c_out, c_in, 3, bias=not self.norm)
            weights |= norm_init(f"bn{i}", c_out) if self.norm else {}
        side = 1 if self.average else self.size // 2 ** len(self.pools)
        return weights | linear_init(rng, "fc", self.classes, self.channels[-1] * side**2)

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        for i in range(1, len(self.channels)):
            x = functional.conv2d(x, weights[f"conv{i}.weight"], weights.get(f"conv{i}.bias"), padding=1)
            x = batch_norm(weights, f"bn{i}", x, statistics) if self.norm else x
            x = ACTIVATIONS[self.activation](x)
            x = functional.max_pool2d(x, 2) if i in self.pools else x
        return linear(weights, "fc", x.mean((2, 3)) if self.average else x.flatten(1))
