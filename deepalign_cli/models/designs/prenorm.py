"""What transformers of all designs share: pre-norm layers of attention and feed-forward units on a stream.

    x = x + attention(norm1(x))
    x = x + feed_forward(norm2(x))

Tensors have the names of `nn.TransformerEncoderLayer`, in `encoder.layers.0`, `encoder.layers.1`, ...

Shapes, for a width w, h heads of d = w / h, and k = h / queries heads of keys and values:
    self_attn.in_proj_weight     [h d + 2 k d, w]    queries, keys and values, one after the other
    self_attn.out_proj.weight    [w, w]
    linear1.weight               [hidden, w]         with SwiGLU what goes through silu
    linear3.weight               [hidden, w]         SwiGLU's other factor
    linear2.weight               [w, hidden]
    norm1, norm2                 [w]                 RMSNorm has no bias
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import (
    layer_norm,
    layer_norm_init,
    linear,
    linear_init,
    normal,
    uniform,
)
from deepalign_cli.symmetry.symmetry import Weights

_CHOICES = {
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary"),
    "feed_forward": ("gelu", "swiglu"),
}
_BASE = 10_000.0  # of rotary positions
_EPSILON = 1e-6  # of RMSNorm


@dataclass(frozen=True)
class PreNorm:
    """Pre-norm layers on a stream of `width`; so many `queries` of the `heads` share their keys and values.

    `norm` is LayerNorm or RMSNorm; `positions` are a table `pos`, or rotations of queries and keys (Su et al.
    2021); `feed_forward` is GELU or SwiGLU (Shazeer 2020). Without `bias` no layer has one.
    """

    width: int
    heads: int
    hidden: int
    layers: int = 2
    norm: str = field(default="layer", kw_only=True)
    positions: str = field(default="learned", kw_only=True)
    feed_forward: str = field(default="gelu", kw_only=True)
    queries: int = field(default=1, kw_only=True)
    bias: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {getattr(self, name)!r}")
        if self.width % self.heads:
            raise ValueError("heads do not divide width")
        if self.heads % self.queries:
            raise ValueError("queries do not divide heads")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError("rotary positions need heads of an even width")

    @property
    def is_traced(self) -> bool:
        """Whether only a trace tells what may move: no family has these names and shapes."""
        return self.positions == "rotary" or self.feed_forward == "swiglu" or self.queries > 1

    @property
    def activation(self) -> str:
        """The activation of the feed-forward units."""
        return "silu" if self.feed_forward == "swiglu" else "gelu"

    def _positions_init(self, rng: torch.Generator, places: int) -> dict[str, Tensor]:
        if self.positions == "rotary":
            return {}
        return {"pos": normal(rng, 0.02, places, self.width)}

    def _layers_init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        for i in range(self.layers):
            weights |= self._layer_init(f"encoder.layers.{i}", rng)
        return weights | self._norm_init("norm")

    def _layer_init(self, name: str, rng: torch.Generator) -> dict[str, Tensor]:
        rows = self.width + 2 * self.width // self.queries
        bound = (6 / (4 * self.width)) ** 0.5
        weights = {
            f"{name}.self_attn.in_proj_weight": uniform(rng, bound, rows, self.width),
            f"{name}.self_attn.in_proj_bias": torch.zeros(rows),
            **linear_init(rng, f"{name}.self_attn.out_proj", self.width, self.width),
            **linear_init(rng, f"{name}.linear1", self.hidden, self.width),
            **linear_init(rng, f"{name}.linear2", self.width, self.hidden),
        }
        if self.feed_forward == "swiglu":
            weights |= linear_init(rng, f"{name}.linear3", self.hidden, self.width)
        if not self.bias:
            weights = {n: w for n, w in weights.items() if not n.endswith("bias")}
        return weights | self._norm_init(f"{name}.norm1") | self._norm_init(f"{name}.norm2")

    def _norm_init(self, name: str) -> dict[str, Tensor]:
        weights = layer_norm_init(name, self.width)
        return weights if self.norm == "layer" else {f"{name}.weight": weights[f"{name}.weight"]}

    def _through(
        self, weights: Weights, x: Float[Tensor, "b t width"], *, causal: bool
    ) -> Float[Tensor, "b t width"]:
        """The stream behind all layers and the last norm; if `causal` no place reads a later one."""
        if self.positions == "learned":
            x = x + weights["pos"]
        for i in range(self.layers):
            layer = f"encoder.layers.{i}"
            x = x + self._attend(
                weights, f"{layer}.self_attn", self._normed(weights, f"{layer}.norm1", x), causal
            )
            x = x + self._fed(weights, layer, self._normed(weights, f"{layer}.norm2", x))
        return self._normed(weights, "norm", x)

    def _normed(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        if self.norm == "layer":
            return layer_norm(weights, name, x)
        return functional.rms_norm(x, x.shape[-1:], weights[f"{name}.weight"], _EPSILON)

    def _fed(self, weights: Weights, layer: str, x: Tensor) -> Tensor:
        hidden = linear(weights, f"{layer}.linear1", x)
        if self.feed_forward == "swiglu":
            hidden = functional.silu(hidden) * linear(weights, f"{layer}.linear3", x)
        else:
            hidden = functional.gelu(hidden)
        return linear(weights, f"{layer}.linear2", hidden)

    def _attend(
        self, weights: Weights, name: str, x: Float[Tensor, "b t width"], causal: bool
    ) -> Float[Tensor, "b t width"]:
        batch, places, width = x.shape
        d, shared = width // self.heads, width // self.queries
        fused = functional.linear(x, weights[f"{name}.in_proj_weight"], weights.get(f"{name}.in_proj_bias"))
        q, k, v = (
            part.reshape(batch, places, -1, d).transpose(1, 2)
            for part in torch.split(fused, [width, shared, shared], dim=-1)
        )
        if self.positions == "rotary":
            q, k = rotated(q), rotated(k)
        if self.queries > 1:  # neighbouring heads read the same keys and values
            k, v = (part.repeat_interleave(self.queries, dim=1) for part in (k, v))
        scores = q @ k.transpose(-1, -2) * d**-0.5
        if causal:
            scores = scores + torch.full((places, places), -torch.inf, dtype=x.dtype).triu(1)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, places, width)
        return linear(weights, f"{name}.out_proj", mixed)


def rotated(x: Float[Tensor, "b heads t d"]) -> Float[Tensor, "b heads t d"]:
    """Every place's entries i and i + d/2 turned by an angle that is the place times 10000^(-2i/d)."""
    places, d = x.shape[-2:]
    frequencies = _BASE ** (-torch.arange(0, d, 2, dtype=x.dtype) / d)
    angles = torch.arange(places, dtype=x.dtype)[:, None] * frequencies
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
