"""Plain chains read off names and shapes: MLPs of any names, SIRENs, plain CNNs, VGG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.models import nonlinearity
from deepalign_cli.models.layers import Conv, Linear, Norm
from deepalign_cli.models.nonlinearity import Nonlinearity, read_activation
from deepalign_cli.models.pooling import Pool, Reading, input_shape, read_pool, read_reading
from deepalign_cli.models.values import (
    OWN_CODE,
    Options,
    ReadNetwork,
    for_each,
    one_of,
    positive,
    unclear,
    wholes,
)  # fmt: skip
from deepalign_cli.models.vgg import vgg_options
from deepalign_cli.symmetry.families.chain import Chain
from deepalign_cli.symmetry.families.layer import Layer as ChainLayer
from deepalign_cli.symmetry.layout import Module
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import pieces

OPTIONS: Mapping[str, str] = {
    **nonlinearity.OPTIONS,
    "norm": "before; before or after the activation, where numbers in the names do not tell (else before)",
    "eps": "1e-5; of norms, PyTorch's 1e-5 where not given",
}
CNN_OPTIONS: Mapping[str, str] = {
    **OPTIONS,
    "padding": "same; same (half of each kernel), one number, or one for each convolution",
    "pools": "1,2; the numbers of the convolutions (from 1) that a pool follows, all, or none",
    "stride": "1; one number or one for each convolution, 1 where not given",
    "pool": "max; max or mean, max where not given",
    "pool_size": "2; 2 where not given",
    "pool_stride": "2; pool_size where not given",
    "head": "mean; flatten, mean or max before the first linear layer: mean where it reads one number a "
    "channel, else flatten; none only where no linear layer follows",
    "adaptive": "7; mean-pool adaptively to so many pixels a side before flattening",
    "size": "28; pixels a side of the images, or 20,30",
}


@dataclass(frozen=True)
class ChainStep:
    """A layer, the norms behind it, and whether they stand before its activation."""

    layer: Conv | Linear
    norms: tuple[Norm, ...] = ()
    norm_first: bool = True
    pool: Pool | None = None

    def __call__(self, weights: Weights, x: Tensor, activation: Nonlinearity | None, number: int) -> Tensor:
        x = self.layer(weights, x)
        if activation and not self.norm_first:
            x = activation(x, number)
        for norm in self.norms:
            x = norm(weights, x)
        if activation and self.norm_first:
            x = activation(x, number)
        return self.pool(x) if self.pool else x


@dataclass(frozen=True)
class ChainRun:
    """A plain chain as a `Run`: `inputs` are norms of the inputs, `reading` is what a linear layer reads."""

    steps: tuple[ChainStep, ...]
    activation: Nonlinearity
    inputs: tuple[Norm, ...] = ()
    reading: Reading | None = None

    def __call__(self, weights: Weights, x: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        if self.reading is None:
            x = x.flatten(1)
        for norm in self.inputs:
            x = norm(weights, x)
        last, read = len(self.steps) - 1, False
        for number, step in enumerate(self.steps):
            if isinstance(step.layer, Linear) and self.reading and not read:
                x, read = self.reading(x), True
            x = step(weights, x, self.activation if number < last else None, number)
        return self.reading(x) if self.reading and not read else x


def read_chain(chain: Chain, values: Mapping[str, str]) -> ReadNetwork:
    """A chain as a `Run`, what it is in words, and its input's shape where it is known.

    Raises:
        UsageError: an option is not known or not usable. SpecError: one is missing, or shapes do not fit.
    """
    for norm in chain.norms:
        _check_norm(norm, chain)
    convs = [layer for layer in chain.layers if layer.is_conv]
    return _read_cnn(chain, convs, values) if convs else _read_mlp(chain, values)


def _read_mlp(chain: Chain, values: Mapping[str, str]) -> ReadNetwork:
    alone = {"activation": "relu"} if len(chain.layers) == 1 else {}  # it is never applied
    options = Options("an MLP", {**alone, **values}, OPTIONS)
    activation = read_activation(options)
    run = ChainRun(_steps(chain, options, [], None, ()), activation, _inputs(chain, options))
    sizes = "-".join(str(n) for n in (chain.layers[0].into, *(layer.out for layer in chain.layers)))
    says = f"{'a SIREN' if activation.says.startswith('sin') else 'an MLP'} {sizes}"
    words = f"a linear layer {sizes}" if alone else f"{says}, {activation.says}{_norm_words(run)}"
    return run, words, (chain.layers[0].into,)


def _read_cnn(chain: Chain, layers: Sequence[ChainLayer], values: Mapping[str, str]) -> ReadNetwork:
    known = vgg_options(chain)
    name = "a plain CNN" if known is None else "a VGG"
    options = Options(name, {**(known or {}), **values}, CNN_OPTIONS)
    options.needs("activation", "padding", "pools")
    activation, pool = read_activation(options), read_pool(options, layers[0].module.rank)
    convs, pools = _convolutions(layers, options), _pools(options, len(layers))
    steps = _steps(chain, options, convs, pool, pools)
    first = next((layer for layer in chain.layers if not layer.is_conv), None)
    reading = read_reading(options, layers[-1], first)
    shape = input_shape(convs, pool, pools, reading, options)
    run = ChainRun(steps, activation, _inputs(chain, options), reading)
    words = [
        f"{name}, {activation.says}",
        f"padding {_one(conv.padding for conv in convs)}, stride {_one(conv.stride for conv in convs)}",
        f"{pool.says} behind convolution {_one(pools)}" if pools else "no pools",
        reading.says,
    ]
    return run, ", ".join(words) + _norm_words(run), shape


def _steps(
    chain: Chain, options: Options, convs: Sequence[Conv], pool: Pool | None, pools: Sequence[int]
) -> tuple[ChainStep, ...]:
    eps = options.read("eps", positive, 1e-5)
    steps = []
    for number, layer in enumerate(chain.layers):
        norms = tuple(Norm(n, eps) for n in chain.norms if chain.hosts[n.path] == number)
        step = convs[number] if layer.is_conv else Linear(layer.module, layer.transposed)
        first = _norm_first(number, chain, options) if norms else True
        steps.append(ChainStep(step, norms, first, pool if layer.is_conv and number + 1 in pools else None))
    return tuple(steps)


def _convolutions(convs: Sequence[ChainLayer], options: Options) -> list[Conv]:
    count = len(convs)
    strides = options.read("stride", lambda text: for_each(wholes(text), count), (1,) * count)
    halves = tuple(layer.module.shapes["weight"][-1] // 2 for layer in convs)
    paddings = options.read(
        "padding", lambda text: halves if text == "same" else for_each(wholes(text, 0), count), halves
    )
    groups = [
        before.out if i and layer.depthwise_after(before) else 1
        for i, (before, layer) in enumerate(zip((convs[0], *convs), convs, strict=False))
    ]
    modules = [layer.module for layer in convs]
    for module in modules:
        if len(set(module.shapes["weight"][2:])) > 1:
            raise SpecError(f"the kernel of '{module.path}' is not square.", OWN_CODE)
    return [Conv(*parts) for parts in zip(modules, strides, paddings, groups, strict=True)]


def _pools(options: Options, convs: int) -> tuple[int, ...]:
    def parse(text: str) -> tuple[int, ...]:
        numbers = tuple(range(1, convs + 1)) if text == "all" else wholes(text)
        if any(n > convs for n in numbers):
            raise ValueError(f"there are {convs} convolutions")
        return numbers

    return options.read("pools", parse, ())


def _inputs(chain: Chain, options: Options) -> tuple[Norm, ...]:
    eps = options.read("eps", positive, 1e-5)
    return tuple(Norm(norm, eps) for norm in chain.norms if chain.hosts[norm.path] is None)


def _norm_first(number: int, chain: Chain, options: Options) -> bool:
    """Whether a layer's norm stands before its activation: as the option says, or as numbers leave room.

    Raises SpecError where there is room on both sides.
    """
    norm = next(n.path for n in chain.norms if chain.hosts[n.path] == number)
    following = chain.layers[number + 1].module.path if number + 1 < len(chain.layers) else ""
    first = _gap(chain.layers[number].module.path, norm) in (None, 1)
    if not first and _gap(norm, following) != 1:
        options.needs("norm")
    return options.read("norm", one_of("before", "after"), "before" if first else "after") == "before"


def _gap(first: str, second: str) -> int | None:
    """How far apart two numbered modules of one sequence stand; None where they stand in none."""
    one, other = pieces(first), pieces(second)
    if not one or len(one) != len(other) or one[:-1] != other[:-1] or one[-1][0] != other[-1][0]:
        return None
    return other[-1][1] - one[-1][1]


def _check_norm(norm: Module, chain: Chain) -> None:
    """Raise SpecError unless it is known how to run this norm."""
    host = chain.hosts[norm.path]
    shared = [n.path for n in chain.norms if host is not None and chain.hosts[n.path] == host]
    layer = chain.layers[host or 0]
    fits = norm.size == (layer.into if host is None else layer.out)
    known = norm.has_statistics or ({"weight", "bias"} <= set(norm.shapes) and not layer.is_conv)
    if len(shared) > 1 or not fits or not known or len(chain.layers) == 1:
        raise unclear(norm.path)


def _norm_words(run: ChainRun) -> str:
    """Where the norms stand, in words."""
    sides = {step.norm_first for step in run.steps if step.norms}
    words = {True: "norms before activations", False: "norms behind activations"}
    return f", {words[sides.pop()]}" if len(sides) == 1 else ", norms on either side" if sides else ""


def _one(values: Iterable[int]) -> str:
    """Numbers in words: one, where all are equal."""
    numbers = list(values)
    return str(numbers[0]) if len(set(numbers)) == 1 else ",".join(map(str, numbers))
