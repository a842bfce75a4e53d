"""Layers by the names of their tensors, as networks that are read off names and shapes call them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from deepalign_cli.symmetry.layout import Module
from deepalign_cli.symmetry.symmetry import Weights


def by_rank(operation: str, rank: int) -> Callable[..., Tensor]:
    """A function such as `conv2d`, for weights of `rank` axes: a convolution in d dimensions has d + 2."""
    function: Callable[..., Tensor] = getattr(functional, f"{operation}{rank - 2}d")
    return function


@dataclass(frozen=True)
class Conv:
    """A convolution of any dimension."""

    module: Module
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        names = self.module.names
        bias = weights[names["bias"]] if "bias" in names else None
        conv = by_rank("conv", self.module.rank)
        return conv(x, weights[names["weight"]], bias, self.stride, self.padding, groups=self.groups)

    def side(self, side: int) -> int:
        """The output's side in pixels, for an image of `side`."""
        return (side + 2 * self.padding - self.module.shapes["weight"][-1]) // self.stride + 1


@dataclass(frozen=True)
class Linear:
    """A linear layer; `transposed` weights are (in, out)."""

    module: Module
    transposed: bool = False

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        names = self.module.names
        w, bias = weights[names["weight"]], weights[names["bias"]] if "bias" in names else None
        if not self.transposed:
            return functional.linear(x, w, bias)
        return x @ w if bias is None else x @ w + bias


@dataclass(frozen=True)
class Norm:
    """BatchNorm with stored statistics, or LayerNorm over the last axis."""

    module: Module
    eps: float = 1e-5

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        names = self.module.names
        w, b = (weights[names[role]] if role in names else None for role in ("weight", "bias"))
        if not self.module.has_statistics:
            return functional.layer_norm(x, x.shape[-1:], w, b, self.eps)
        mean, var = (weights[names[role]] for role in ("running_mean", "running_var"))
        return functional.batch_norm(x, mean, var, w, b, eps=self.eps)
