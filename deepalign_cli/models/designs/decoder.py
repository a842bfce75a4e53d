"""A small causal language model: at every place of a text, scores of what comes next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import Statistics, linear, normal, uniform
from deepalign_cli.models.designs.prenorm import PreNorm
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class Decoder(PreNorm):
    """A table `embed` of tokens, `pos`, pre-norm layers, `norm`, and `head`, which is not tied to the table.

    With norm="rms", positions="rotary", feed_forward="swiglu", queries=2 and bias=False it is a small Llama;
    with the usual options a small GPT-2 that has a head of its own.
    """

    context: int = 64
    tokens: int = 96

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.context,)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights = {"embed.weight": normal(rng, 0.02, self.tokens, self.width)}
        weights |= self._positions_init(rng, self.context)
        weights |= self._layers_init(rng)
        return weights | {"head.weight": uniform(rng, self.width**-0.5, self.tokens, self.width)}

    def __call__(
        self, weights: Weights, x: Tensor, statistics: Statistics | None = None
    ) -> Float[Tensor, "b t tokens"]:
        stream = functional.embedding(x, weights["embed.weight"])
        return linear(weights, "head", self._through(weights, stream, causal=True))
