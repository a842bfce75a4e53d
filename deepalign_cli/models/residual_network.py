"""Residual networks in torchvision's and CIFAR-style names, read off names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deepalign_cli.errors import SpecError
from deepalign_cli.models import nonlinearity
from deepalign_cli.models.layers import Conv, Linear, Norm
from deepalign_cli.models.nonlinearity import Nonlinearity, read_activation
from deepalign_cli.models.values import (
    OWN_CODE,
    Options,
    ReadNetwork,
    one_of,
    positive,
    unclear,
    whole,
    wholes,
)
from deepalign_cli.symmetry.families.residual import cardinality
from deepalign_cli.symmetry.families.residual_parts import Net, ResidualBlock
from deepalign_cli.symmetry.layout import Module
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import numbers

OPTIONS: Mapping[str, str] = {
    **nonlinearity.OPTIONS,
    "stem_stride": "2; of the first convolution: 2 for a kernel of 7 as in torchvision, else 1",
    "stem_pool": "max; max (3x3, stride 2) or none behind the first convolution: max for a kernel of 7, "
    "as in torchvision, else none",
    "strides": "1,2,2,2; of each stage's first block: 1 in the first stage, then 2 where it has a projection",
    "stride_at": "2; which convolution of a block (from 1) has its stride: the first of a kernel above 1",
    "eps": "1e-5; of norms, PyTorch's 1e-5 where not given",
    "size": "224; pixels a side of the images",
}


@dataclass(frozen=True)
class Unit:
    """A convolution with the norm behind it, or before it in pre-activation networks."""

    conv: Conv
    norm: Norm | None = None

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        """The convolution, then its norm."""
        x = self.conv(weights, x)
        return self.norm(weights, x) if self.norm else x


@dataclass(frozen=True)
class BlockRun:
    """A residual block. `before` means pre-activation: norm, activation, convolution."""

    units: tuple[Unit, ...]
    shortcut: Unit | None
    activation: Nonlinearity
    before: bool

    def __call__(self, weights: Weights, x: Tensor) -> Tensor:
        return self._norms_before(weights, x) if self.before else self._norms_behind(weights, x)

    def _norms_behind(self, weights: Weights, x: Tensor) -> Tensor:
        skip = self.shortcut(weights, x) if self.shortcut else x
        for number, unit in enumerate(self.units):
            x = unit(weights, self.activation.then(x) if number else x)
        return self.activation.then(x + skip)

    def _norms_before(self, weights: Weights, x: Tensor) -> Tensor:
        """He et al. 2016: a projection reads what the first convolution reads, the identity the input."""
        skip = x
        for number, unit in enumerate(self.units):
            x = self.activation.then(unit.norm(weights, x) if unit.norm else x)
            if number == 0 and self.shortcut:
                skip = self.shortcut(weights, x)
            x = unit.conv(weights, x)
        return x + skip


@dataclass(frozen=True)
class ResidualRun:
    """A residual network as a `Run`; its tensors' names begin with `prefix`."""

    prefix: str
    stem: Unit
    pool: bool
    blocks: tuple[BlockRun, ...]
    last: Norm | None
    head: Linear
    places: int
    activation: Nonlinearity

    def __call__(self, weights: Weights, x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch out"]:
        weights = {n.removeprefix(self.prefix): w for n, w in weights.items()} if self.prefix else weights
        before = self.blocks[0].before
        x = self.stem(weights, x)
        x = x if before else self.activation.first(x)
        if self.pool:
            x = functional.max_pool2d(x, 3, 2, 1)
        for block in self.blocks:
            x = block(weights, x)
        if before:
            x = self.activation.then(self.last(weights, x) if self.last else x)
        return self.head(weights, x.mean((2, 3)) if self.places == 1 else x.flatten(1))


def read_residual(net: Net, prefix: str, values: Mapping[str, str]) -> ReadNetwork:
    """A residual network as a `Run`, what it is in words, and its input's shape where it is known.

    Raises:
        UsageError: an option is not known or not usable. SpecError: the shapes leave something open.
    """
    options = Options("a ResNet", {"activation": "relu", **values}, OPTIONS)
    activation, before = read_activation(options), net.norms_first
    first, norms, last_layer = _ends(net)
    eps = options.read("eps", positive, 1e-5)
    kernel, channels = first.shapes["weight"][-1], first.shapes["weight"][1]
    stem_stride = options.read("stem_stride", whole, 2 if kernel == 7 else 1)
    pool = options.read("stem_pool", one_of("max", "none"), "max" if kernel == 7 else "none") == "max"
    strides = _strides(net, options)
    blocks = tuple(
        _block(block, stride, activation, before, options)
        for block, stride in zip(net.blocks, strides, strict=True)
    )
    outside = Norm(norms[0], eps) if norms else None
    stem = Unit(Conv(first, stem_stride, kernel // 2), None if before else outside)
    places = last_layer.shapes["weight"][1] // net.blocks[-1].out
    head = Linear(last_layer)
    run = ResidualRun(prefix, stem, pool, blocks, outside if before else None, head, places, activation)
    size: tuple[int, ...] = options.read("size", wholes, ())
    words = [
        f"a {'pre-activation ' if before else ''}ResNet of {len(net.blocks)} blocks, {activation.says}",
        f"stem {kernel}x{kernel}, stride {stem_stride}" + (" and max-pool" if pool else ""),
        f"strides {','.join(map(str, strides))}",
    ]
    return run, ", ".join(words), (channels, *(size * 2 if len(size) == 1 else size)) if size else None


def _block(
    block: ResidualBlock, stride: int, activation: Nonlinearity, before: bool, options: Options
) -> BlockRun:
    eps = options.read("eps", positive, 1e-5)
    for module in block.convs:
        if len(numbers(module.path[len(block.path) :])) > 1:
            raise unclear(module.path)
    kernels = [conv.shapes["weight"][-1] for conv in block.convs]
    usual = next((i for i, kernel in enumerate(kernels, 1) if kernel > 1), 1)
    at = options.read("stride_at", whole, usual)
    units = []
    for number, (module, kernel) in enumerate(zip(block.convs, kernels, strict=True)):
        conv = Conv(module, stride if number + 1 == at else 1, kernel // 2, cardinality(block, number))
        units.append(Unit(conv, Norm(block.norms[number], eps) if block.norms else None))
    return BlockRun(tuple(units), _shortcut(block, stride, eps), activation, before)


def _shortcut(block: ResidualBlock, stride: int, eps: float) -> Unit | None:
    """The projection of a block. Raises SpecError unless it is a convolution, then at most one norm."""
    if not block.shortcut:
        return None
    conv, norms = block.shortcut[0], block.shortcut[1:]
    place = re.search(r"\.(\d+)$", conv.path[len(block.path) :])
    if conv.rank != 4 or len(norms) > 1 or (place and int(place[1]) > 0):
        raise unclear(conv.path)
    padding = conv.shapes["weight"][-1] // 2
    return Unit(Conv(conv, stride, padding), Norm(norms[0], eps) if norms else None)


def _strides(net: Net, options: Options) -> tuple[int, ...]:
    """The stride of every block. Raises SpecError where names show no stages and no option does."""
    stages = [block.path.rpartition(".")[0] for block in net.blocks]
    order = list(dict.fromkeys(stages))
    firsts = [i for i, stage in enumerate(stages) if stage not in stages[:i]]
    if "" in stages or (len(order) == 1 and len(net.blocks) > 1):
        options.needs("strides")
        order, firsts = [block.path for block in net.blocks], list(range(len(net.blocks)))
    projects = [any(m.rank == 4 for m in net.blocks[i].shortcut) for i in firsts]
    usual = tuple(2 if i and projects[i] else 1 for i in range(len(order)))
    strides = options.read("strides", wholes, usual)
    if len(strides) != len(order):
        raise SpecError(f"there are {len(strides)} strides for {len(order)} stages.", "give one for each.")
    if any(stride > 1 and not has for stride, has in zip(strides, projects, strict=True)):
        raise SpecError("a block without a projection has a stride above 1.", OWN_CODE)
    by_first = dict(zip(firsts, strides, strict=True))
    return tuple(by_first.get(i, 1) for i in range(len(net.blocks)))


def _ends(net: Net) -> tuple[Module, tuple[Module, ...], Module]:
    """The only layer before the blocks, the norms outside of them, and the only layer behind them.

    Raises SpecError where there are others, or what is not known to be run: other norms, gates, ranks.
    """
    head = [layer.module for layer in net.head.layers] if net.head else []
    stem = [layer.module for layer in net.stem.layers]
    strays = [*stem[1:], *head[1:], *(gate for block in net.blocks for gate in block.gate)]
    strays += [m for m in (*stem, *(c for b in net.blocks for c in b.convs)) if m.rank != 4]
    outside = (*net.norms, *net.stem.norms, *(net.head.norms if net.head else ()))
    norms = [*outside, *(n for b in net.blocks for n in (*b.norms, *b.shortcut[1:]))]
    strays += [norm for norm in norms if not norm.has_statistics] + list(outside[1:])
    strays += [norm for norm in outside if (norm in net.norms) != net.norms_first]
    if strays or not head or head[0].rank != 2:
        raise unclear((strays or stem)[0].path)
    return stem[0], outside, head[0]
