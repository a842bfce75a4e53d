"""The universal encoder's layers with their norms multiplied into them, so that a state is normed once.

Whatever reads a unit's state reads it through some LayerNorm. What writes it therefore writes it without
its mean over the channels, and every norm's scale and shift stand in the matrices behind it. What is left of
all norms is the state over its root mean square, which all its readers share. PyTorch's LayerNorm of a
hundred channels takes longer than the product behind it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

Units = Float[Tensor, "nets _ sketches channels"]  # many networks under a sketch each, or one under many

_EPS = 1e-5  # LayerNorm's


@dataclass(frozen=True)
class Normed:
    """A group's features, of mean zero over the channels, and the same over their root mean square."""

    h: Units
    normed: Units


def normed(h: Units) -> Normed:
    """Features, centred over the channels, as a state."""
    size = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    return Normed(h, h * (size.square() / h.shape[-1] + _EPS).rsqrt())


@dataclass(frozen=True)
class FoldedLinear:
    """`x @ weight + bias`."""

    weight: Float[Tensor, "*waves channels made"]
    bias: Float[Tensor, "*waves made"]

    def to(self, dtype: torch.dtype) -> FoldedLinear:
        """In another type."""
        return FoldedLinear(self.weight.to(dtype), self.bias.to(dtype))

    def __call__(self, x: Float[Tensor, "*places channels"]) -> Float[Tensor, "*places made"]:
        made: Tensor = nn.functional.linear(x, self.weight.mT, self.bias)
        return made

    def added_to(
        self, base: Float[Tensor, "nets n sketches made"], x: Float[Tensor, "nets n sketches channels"]
    ) -> Float[Tensor, "nets n sketches made"]:
        """`base` with `x @ weight` on it, without the bias; `base` itself is changed."""
        base.view(-1, base.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]), self.weight)
        return base


def behind(
    norm: nn.LayerNorm, weight: Float[Tensor, "*waves made channels"], bias: Tensor | float = 0.0
) -> FoldedLinear:
    """A linear map of a LayerNorm's output, as one of the normed state."""
    return FoldedLinear((weight * norm.weight).mT, weight @ norm.bias + bias)


def centred(
    weight: Float[Tensor, "made channels"], bias: Float[Tensor, " made"]
) -> tuple[Float[Tensor, "made channels"], Float[Tensor, " made"]]:
    """A linear map without its output's mean over the channels."""
    return weight - weight.mean(0), bias - bias.mean()
