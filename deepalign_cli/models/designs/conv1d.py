"""Convolutional networks of one dimension: the rows of an image are channels, its columns places."""

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
    check_activation,
    linear,
    linear_init,
    norm_init,
    uniform,
)
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class Conv1d:
    """`conv1`, (`bn1`), activation, ...; `fc` reads the mean over places. `channels` are those behind."""

    channels: tuple[int, ...]
    kernel: int = 5
    size: int = 14
    colours: int = 1
    classes: int = 10
    norm: bool = False
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not self.channels or self.kernel % 2 == 0:
            raise ValueError("there are no channels, or the kernel has no middle")
        check_activation(self.activation)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.colours, self.size, self.size)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for i, (c_in, c_out) in enumerate(pairwise((self.colours * self.size, *self.channels)), 1):
            bound = (c_in * self.kernel) ** -0.5
            weights[f"conv{i}.weight"] = uniform(rng, bound, c_out, c_in, self.kernel)
            weights |= norm_init(f"bn{i}", c_out) if self.norm else {}
            weights |= {} if self.norm else {f"conv{i}.bias": uniform(rng, bound, c_out)}
        return weights | linear_init(rng, "fc", self.classes, self.channels[-1])

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        x = x.flatten(1, 2)
        for i in range(1, len(self.channels) + 1):
            w, bias = weights[f"conv{i}.weight"], weights.get(f"conv{i}.bias")
            x = functional.conv1d(x, w, bias, padding=self.kernel // 2)
            x = batch_norm(weights, f"bn{i}", x, statistics) if self.norm else x
            x = ACTIVATIONS[self.activation](x)
        return linear(weights, "fc", x.mean(2))
