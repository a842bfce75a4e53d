"""Small residual networks of torchvision's basic blocks, with torchvision's names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.models.designs.base import (
    Statistics,
    batch_norm,
    conv_init,
    linear,
    linear_init,
    norm_init,
)
from deepalign_cli.symmetry.symmetry import Weights


@dataclass(frozen=True)
class ResNet:
    """A 3x3 stem, one stage of `blocks` basic blocks for each of `widths`, mean-pool, `fc`.

    All stages but the first halve the image, and so does the stem with `stride` 2.
    """

    widths: tuple[int, ...]
    blocks: int = 1
    size: int = 14
    colours: int = 1
    classes: int = 10
    stride: int = 1

    def __post_init__(self) -> None:
        if not self.widths:
            raise ValueError("there are no widths")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.colours, self.size, self.size)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights = conv_init(rng, "conv1", self.widths[0], self.colours, 3, bias=False)
        weights |= norm_init("bn1", self.widths[0])
        for name, c_in, c_out, stride in self._blocks():
            weights |= conv_init(rng, f"{name}.conv1", c_out, c_in, 3, bias=False)
            weights |= norm_init(f"{name}.bn1", c_out)
            weights |= conv_init(rng, f"{name}.conv2", c_out, c_out, 3, bias=False)
            weights |= norm_init(f"{name}.bn2", c_out)
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

        x = functional.relu(norm("bn1", conv("conv1", x, self.stride)))
        for name, c_in, c_out, stride in self._blocks():
            skip = x
            if stride != 1 or c_in != c_out:
                skip = norm(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride))
            x = functional.relu(norm(f"{name}.bn1", conv(f"{name}.conv1", x, stride)))
            x = functional.relu(norm(f"{name}.bn2", conv(f"{name}.conv2", x)) + skip)
        return linear(weights, "fc", x.mean((2, 3)))

    def _blocks(self) -> Iterator[tuple[str, int, int, int]]:
        """Name, channels in and out, and stride of every block."""
        channels = self.widths[0]
        for stage, width in enumerate(self.widths, 1):
            for block in range(self.blocks):
                yield f"layer{stage}.{block}", channels, width, 2 if stage > 1 and block == 0 else 1
                channels = width
