"""A linear or convolution layer as one reads it: which axis of its weight is which."""

from __future__ import annotations

from dataclasses import dataclass

from deepalign_cli.symmetry.layout import Module


@dataclass(frozen=True)
class Layer:
    """A linear or convolution layer with its reading: `transposed` weights are (in, out)."""

    module: Module
    transposed: bool

    @property
    def out(self) -> int:
        return self.module.shapes["weight"][1 if self.transposed else 0]

    @property
    def into(self) -> int:
        return self.module.shapes["weight"][0 if self.transposed else 1]

    @property
    def is_conv(self) -> bool:
        return self.module.rank > 2

    @property
    def fits_bias(self) -> bool:
        return self.module.shapes.get("bias", (self.out,)) == (self.out,)

    def depthwise_after(self, previous: Layer) -> bool:
        """Whether this is a convolution of each channel of `previous` on its own."""
        return self.is_conv and self.into == 1 and previous.out > 1 and self.out == previous.out

    def feeds(self, other: Layer) -> bool:
        """Whether this layer's output fits the other's input, flattening where a conv meets a linear."""
        if other.is_conv:
            joins = self.out == other.into or other.depthwise_after(self)
            return self.module.rank == other.module.rank and joins
        return other.into % self.out == 0 if self.is_conv else self.out == other.into
