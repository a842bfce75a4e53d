"""Implicit neural representations with sine units (SIREN, Sitzmann et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from deepalign_cli.models.designs.base import Statistics, linear, uniform
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class Siren:
    """Linear layers `layers.0`, ... of `sizes` with sin(w0 z) between; the paper's initialisation."""

    is_traced: ClassVar[bool] = True  # names and shapes do not show the sines' phases
    sizes: tuple[int, ...] = (2, 32, 32, 1)
    w0: float = 30.0

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or not self.w0 > 0:
            raise ValueError(f"sizes = {self.sizes}, w0 = {self.w0} do not describe layers of sines")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.sizes[0],)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for i, (n_in, n_out) in enumerate(pairwise(self.sizes)):
            bound = 1 / n_in if i == 0 else (6 / n_in) ** 0.5 / self.w0
            weights[f"layers.{i}.weight"] = uniform(rng, bound, n_out, n_in)
            weights[f"layers.{i}.bias"] = uniform(rng, n_in**-0.5, n_out)
        return weights

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        last = len(self.sizes) - 2
        for i in range(last):
            x = torch.sin(self.w0 * linear(weights, f"layers.{i}", x))
        return linear(weights, f"layers.{last}", x)
