"""Images on their way through convolutions: pools, what a linear layer reads of them, and their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from jaxtyping import Float
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.models.layers import Conv, by_rank
from deepalign_cli.models.values import Options, one_of, whole, wholes
from deepalign_cli.symmetry.families.layer import Layer

_LARGEST = 1024  # pixels a side that are tried


@dataclass(frozen=True)
class Pool:
    """A max- or mean-pool."""

    rank: int
    kind: str = "max"
    size: int = 2
    stride: int = 2

    @property
    def says(self) -> str:
        """What it is, in words."""
        stride = f", stride {self.stride}" if self.stride != self.size else ""
        return f"{self.kind}-pools of {self.size}{stride}"

    def __call__(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        pool = by_rank("max_pool" if self.kind == "max" else "avg_pool", self.rank)
        return pool(x, self.size, self.stride)

    def side(self, side: int) -> int:
        """The output's side in pixels, for an image of `side`."""
        return (side - self.size) // self.stride + 1


@dataclass(frozen=True)
class Reading:
    """What is read from the last convolution: `places` numbers a channel, 0 if no linear layer follows."""

    kind: str
    rank: int
    places: int
    adaptive: int | None = None

    @property
    def says(self) -> str:
        """What it is, in words."""
        pooled = f"mean-pooled to {self.adaptive} a side, " if self.adaptive else ""
        words = {"flatten": "flattened", "mean": "mean over places", "max": "maximum over places"}
        return pooled + words.get(self.kind, "outputs are images")

    def __call__(self, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        if self.adaptive:
            x = by_rank("adaptive_avg_pool", self.rank)(x, self.adaptive)
        if self.kind == "mean":
            return x.flatten(2).mean(2)
        if self.kind == "max":
            return x.flatten(2).amax(2)
        return x.flatten(1) if self.kind == "flatten" else x


def read_pool(options: Options, rank: int) -> Pool:
    """The pools that the options describe."""
    size = options.read("pool_size", whole, 2)
    kind = options.read("pool", one_of("max", "mean"), "max")
    return Pool(rank, kind, size, options.read("pool_stride", whole, size))


def read_reading(options: Options, last: Layer, first: Layer | None) -> Reading:
    """How the first linear layer reads the last convolution.

    Raises:
        SpecError: the options do not say, or do not fit the shapes.
    """
    rank = last.module.rank
    if first is None:
        options.needs("head")
        return Reading(options.read("head", one_of("mean", "max", "none"), "none"), rank, 0)
    places = first.into // last.out
    kind = options.read("head", one_of("flatten", "mean", "max"), "mean" if places == 1 else "flatten")
    adaptive = options.read("adaptive", whole, 0) or None
    if (kind != "flatten" and places > 1) or (adaptive and adaptive ** (rank - 2) != places):
        raise SpecError(
            f"'{first.module.path}' reads {places} numbers a channel, which does not fit head={kind}"
            f"{f' and adaptive={adaptive}' if adaptive else ''}.",
            "compare head and adaptive with the network.",
        )
    return Reading(kind, rank, places, adaptive)


def input_shape(
    convs: Sequence[Conv], pool: Pool, pools: Sequence[int], reading: Reading, options: Options
) -> tuple[int, ...] | None:
    """The shape of one image, where the options say it or only one square shape can be flattened.

    Raises:
        SpecError: no image, or not one of the stated size, gives what the linear layer reads.
    """
    axes, channels = reading.rank - 2, convs[0].module.shapes["weight"][1]
    size: tuple[int, ...] = options.read("size", wholes, ())
    fixed = reading.kind == "flatten" and not reading.adaptive
    stages = [stage for i, conv in enumerate(convs, 1) for stage in ((conv, pool) if i in pools else (conv,))]
    outs = {side: _side(side, stages) for side in (*range(1, _LARGEST + 1), *size)}
    outs = {side: out for side, out in outs.items() if out >= 1}
    if size:
        sides = size * axes if len(size) == 1 else size
        read = prod(outs.get(side, 0) for side in sides)
        if len(sides) != axes or not read or (fixed and read != reading.places):
            raise _unfit(f"{' x '.join(map(str, sides))} pixels do not give", reading)
        return (channels, *sides)
    if not fixed:
        return None
    divisors = sorted(out for out in set(outs.values()) if reading.places % out == 0)
    if not any(prod(sides) == reading.places for sides in product(divisors, repeat=axes)):
        raise _unfit(f"no image of up to {_LARGEST} pixels a side gives", reading)
    square = [side for side, out in outs.items() if out**axes == reading.places]
    return (channels, *square * axes) if len(square) == 1 else None


def _side(side: int, stages: Sequence[Conv | Pool]) -> int:
    for stage in stages:
        side = stage.side(side) if side >= 1 else 0
    return side


def _unfit(what: str, reading: Reading) -> SpecError:
    return SpecError(
        f"{what} the {reading.places} numbers a channel that the first linear layer reads.",
        "compare padding, stride, pools and size with the network.",
    )
