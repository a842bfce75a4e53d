"""A small transformer classifier on image patches, with the names of `nn.TransformerEncoder`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import Statistics, linear, linear_init
from deepalign_cli.models.designs.prenorm import PreNorm
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class Transformer(PreNorm):
    """`embed` on square patches, `pos`, pre-norm layers, `norm`, mean over patches, `head`."""

    size: int = 14
    patch: int = 7
    colours: int = 1
    classes: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size % self.patch:
            raise ValueError("patch does not divide size")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.colours, self.size, self.size)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights = linear_init(rng, "embed", self.width, self.colours * self.patch**2)
        weights |= self._positions_init(rng, (self.size // self.patch) ** 2)
        weights |= self._layers_init(rng)
        return weights | linear_init(rng, "head", self.classes, self.width)

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        patches = functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        stream = self._through(weights, linear(weights, "embed", patches), causal=False)
        return linear(weights, "head", stream.mean(1))
