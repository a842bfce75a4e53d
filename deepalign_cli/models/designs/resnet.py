"""Small residual networks of torchvision's basic or bottleneck blocks, with torchvision's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import (
    ACTIVATIONS,
    Statistics,
    batch_norm,
    check_activation,
    conv_init,
    linear,
    linear_init,
    norm_init,
)
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class ResNet:
    """A 3x3 stem, one stage of `blocks` blocks for each of `widths`, mean-pool, `fc`.

    All stages but the first halve the image, and so does the stem with `stride` 2. From `squeeze` 2 on, the
    blocks are bottlenecks: 1x1, 3x3 and 1x1 convolutions, with so many times fewer channels between them.
    """

    widths: tuple[int, ...]
    blocks: int = 1
    size: int = 14
    colours: int = 1
    classes: int = 10
    stride: int = 1
    squeeze: int = 1
    activation: str = "relu"

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("there are no widths")
        if min(self.widths) < self.squeeze:
            raise ValueError(f"squeeze = {self.squeeze} leaves no channels")
        check_activation(self.activation)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.colours, self.size, self.size)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights = conv_init(rng, "conv1", self.widths[0], self.colours, 3, bias=False)
        weights |= norm_init("bn1", self.widths[0])
        for name, c_in, c_out, stride in self._blocks():
            for number, (into, out, kernel, _) in enumerate(self._convolutions(c_in, c_out, stride), 1):
                weights |= conv_init(rng, f"{name}.conv{number}", out, into, kernel, bias=False)
                weights |= norm_init(f"{name}.bn{number}", out)
            if stride != 1 or c_in != c_out:
                weights |= conv_init(rng, f"{name}.downsample.0", c_out, c_in, 1, bias=False)
                weights |= norm_init(f"{name}.downsample.1", c_out)
        return weights | linear_init(rng, "fc", self.classes, self.widths[-1])

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
            w = weights[f"{name}.weight"]
            return functional.conv2d(x, w, None, stride, padding=w.shape[-1] // 2)

        def norm(name: str, x: Tensor) -> Tensor:
            return batch_norm(weights, name, x, statistics)

        activation = ACTIVATIONS[self.activation]
        x = activation(norm("bn1", conv("conv1", x, self.stride)))
        for name, c_in, c_out, stride in self._blocks():
            skip = x
            if stride != 1 or c_in != c_out:
                skip = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
            last = 2 if self.squeeze == 1 else 3
            for number, (_, _, _, step) in enumerate(self._convolutions(c_in, c_out, stride), 1):
                x = norm(f"{name}.bn{number}", conv(f"{name}.conv{number}", x, step))
                x = activation(x + skip if number == last else x)
        return linear(weights, "fc", x.mean((2, 3)))

    def _convolutions(self, c_in: int, c_out: int, stride: int) -> list[tuple[int, int, int, int]]:
        """Channels in and out, kernel and stride of every convolution of a block."""
        if self.squeeze == 1:
            return [(c_in, c_out, 3, stride), (c_out, c_out, 3, 1)]
        inner = c_out // self.squeeze
        return [(c_in, inner, 1, 1), (inner, inner, 3, stride), (inner, c_out, 1, 1)]

    def _blocks(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, channels in and out, and stride of every block."""
        channels = self.widths[0]
        for stage, width in enumerate(self.widths, 1):
            for block in range(self.blocks):
                yield f"layer{stage}.{block}", channels, width, 2 if stage > 1 and block == 0 else 1
                channels = width
