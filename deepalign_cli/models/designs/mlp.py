"""Multi-layer perceptrons: `fc1`, activation, `fc2`, ..."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from deepalign_cli.models.designs.base import ACTIVATIONS, Statistics, check_activation, linear, linear_init
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class MLP:
    """Linear layers of `sizes` with an activation between; inputs are flattened."""

    sizes: tuple[int, ...]
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ValueError("there are no sizes")
        check_activation(self.activation)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.sizes[0],)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for i, (n_in, n_out) in enumerate(pairwise(self.sizes), 1):
            weights |= linear_init(rng, f"fc{i}", n_out, n_in)
        return weights

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        x, last = x.flatten(1), len(self.sizes) - 1
        for i in range(1, last):
            x = ACTIVATIONS[self.activation](linear(weights, f"fc{i}", x))
        return linear(weights, f"fc{last}", x)
