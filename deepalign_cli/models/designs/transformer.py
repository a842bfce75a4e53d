"""A small transformer classifier on image patches, with the names of `nn.TransformerEncoder`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import (
    Statistics,
    layer_norm,
    layer_norm_init,
    linear,
    linear_init,
    uniform,
)
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class Transformer:
    """`embed` on square patches, `pos`, pre-norm encoder layers, `norm`, mean over patches, `head`."""

    width: int
    heads: int
    hidden: int
    layers: int = 2
    size: int = 14
    patch: int = 7
    colours: int = 1
    classes: int = 10

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError("heads do not divide width")
        if self.size % self.patch:
            raise ValueError("patch does not divide size")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.colours, self.size, self.size)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights = linear_init(rng, "embed", self.width, self.colours * self.patch**2)
        weights["pos"] = 0.02 * torch.randn((self.size // self.patch) ** 2, self.width, generator=rng)
        for i in range(self.layers):
            weights |= self._layer_init(f"encoder.layers.{i}", rng)
        weights |= layer_norm_init("norm", self.width)
        return weights | linear_init(rng, "head", self.classes, self.width)

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        patches = functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        x = linear(weights, "embed", patches) + weights["pos"]
        for i in range(self.layers):
            layer = f"encoder.layers.{i}"
            x = x + self._attend(weights, f"{layer}.self_attn", layer_norm(weights, f"{layer}.norm1", x))
            hidden = linear(weights, f"{layer}.linear1", layer_norm(weights, f"{layer}.norm2", x))
            x = x + linear(weights, f"{layer}.linear2", functional.gelu(hidden))
        return linear(weights, "head", layer_norm(weights, "norm", x).mean(1))

    def _attend(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        fused = functional.linear(x, weights[f"{name}.in_proj_weight"], weights[f"{name}.in_proj_bias"])
        q, k, v = fused.reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width)
        return linear(weights, f"{name}.out_proj", mixed)

    def _layer_init(self, name: str, rng: torch.Generator) -> dict[str, Tensor]:
        bound = (6 / (4 * self.width)) ** 0.5
        return {
            f"{name}.self_attn.in_proj_weight": uniform(rng, bound, 3 * self.width, self.width),
            f"{name}.self_attn.in_proj_bias": torch.zeros(3 * self.width),
            **linear_init(rng, f"{name}.self_attn.out_proj", self.width, self.width),
            **linear_init(rng, f"{name}.linear1", self.hidden, self.width),
            **linear_init(rng, f"{name}.linear2", self.width, self.hidden),
            **layer_norm_init(f"{name}.norm1", self.width),
            **layer_norm_init(f"{name}.norm2", self.width),
        }
