"""Drawing designs at random from a recipe's ranges, one function a kind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from deepalign_cli.errors import DeepalignError, UsageError
from deepalign_cli.models.designs import DESIGNS, Design, config_of
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.conv1d import Conv1d
from deepalign_cli.models.designs.decoder import Decoder
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from deepalign_cli.models.designs.rnn import RNN
from deepalign_cli.models.designs.transformer import Transformer
from deepalign_cli.train.known import symmetry_of
from deepalign_cli.train.recipes import make
from deepalign_cli.train.tasks import Task

Ranges = Mapping[str, Any]


def draw_design(kind: str, ranges: Ranges, task: Task, rng: random.Random) -> Design:
    """A design of `kind` for a task; ranges that are not given have the usual small values.

    A kind that is not drawn is made as it is written, and so is any that stands under `design`.

    Raises:
        UsageError: the kind is not known, a range is not usable, or the design is not one whose units can
        be told from its tensors' names and shapes.
    """
    if kind in _DRAWS and "design" not in ranges:
        design = _drawn(kind, ranges, task, rng)
    else:
        design = _written(kind, ranges)
    try:
        symmetry_of(design, design.init(torch.Generator()))
    except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
        raise UsageError(f"a design {config_of(design)} cannot be made: {error}.", _DESIGN_HINT) from None
    except DeepalignError as error:
        message = f"a design {config_of(design)} cannot be used: {error.message}"
        raise UsageError(message, _DESIGN_HINT) from None
    return design


def _drawn(kind: str, ranges: Ranges, task: Task, rng: random.Random) -> Design:
    unknown = sorted(set(ranges) - _RANGES[kind])
    if unknown:
        raise UsageError(
            f"'{kind}' has no range '{unknown[0]}'.", f"one of {', '.join(sorted(_RANGES[kind]))}."
        )
    try:
        return _DRAWS[kind](ranges, task, rng)
    except (TypeError, ValueError, IndexError) as error:
        message = f"the ranges of '{kind}' are not usable: {error}."
        raise UsageError(message, "write depth = [2, 7].") from None


def _written(kind: str, ranges: Ranges) -> Design:
    rest = sorted(set(ranges) - {"design"})
    if "design" in ranges and rest:
        raise UsageError(f"a set with a design has no range '{rest[0]}'.", _DESIGN_HINT)
    where, table = ("set.design", ranges["design"]) if "design" in ranges else ("set", ranges)
    if kind not in DESIGNS:
        raise UsageError(f"there is no design '{kind}'.", f"one of {', '.join(DESIGNS)}.")
    if not isinstance(table, Mapping):
        raise UsageError(f"design = {table!r} is not a table.", _DESIGN_HINT)
    if table.get("kind", kind) != kind:
        raise UsageError(f"a set of kind '{kind}' has a design of kind {table['kind']!r}.", _DESIGN_HINT)
    return make(DESIGNS[kind], {key: value for key, value in table.items() if key != "kind"}, where)


def _mlp(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    depth = rng.randint(*_range(ranges, "depth", (2, 7)))
    low, high = _range(ranges, "width", (32, 256))
    shapes = rng.random()
    if shapes < 0.5:  # all of one width, as most are
        hidden = [_log_uniform(low, high, rng)] * depth
    elif shapes < 0.75:  # narrowing
        hidden = sorted((_log_uniform(low, high, rng) for _ in range(depth)), reverse=True)
    else:
        hidden = [_log_uniform(low, high, rng) for _ in range(depth)]
    inputs = task.side**2 * (1 if task.grey else 3)
    return MLP((inputs, *hidden, 10), _choice(ranges, "activation", ("relu",), rng))


def _cnn(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    depth = rng.randint(*_range(ranges, "depth", (2, 5)))
    low, high = _range(ranges, "width", (12, 48))
    if rng.random() < 0.4:
        widths = [_log_uniform(low, high, rng)] * depth
    else:
        widths = sorted(_log_uniform(low, high, rng) for _ in range(depth))
    pools = tuple(sorted(rng.sample(range(1, depth + 1), 2)))
    return CNN(
        (1 if task.grey else 3, *widths), task.side,
        norm=_choice(ranges, "norm", (False, True), rng),
        average=_choice(ranges, "average", (False, True), rng), pools=pools,
        activation=_choice_if_asked(ranges, "activation", "relu", rng),
        separable=_choice_if_asked(ranges, "separable", False, rng),
    )  # fmt: skip


def _conv1d(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    depth = rng.randint(*_range(ranges, "depth", (2, 4)))
    low, high = _range(ranges, "width", (16, 64))
    return Conv1d(
        tuple(_log_uniform(low, high, rng) for _ in range(depth)),
        _choice(ranges, "kernel", (3, 5), rng), task.side, 1 if task.grey else 3,
        norm=_choice(ranges, "norm", (False, True), rng),
        activation=_choice(ranges, "activation", ("relu",), rng),
    )  # fmt: skip


def _recurrent(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    low, high = _range(ranges, "width", (24, 64))
    units, layers = _log_uniform(low, high, rng), rng.randint(*_range(ranges, "layers", (1, 2)))
    cell = _choice(ranges, "cell", ("gru", "lstm"), rng)
    return RNN(units, layers, cell, task.side, 1 if task.grey else 3)


def _resnet(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    stages = rng.randint(*_range(ranges, "stages", (2, 3)))
    low, high = _range(ranges, "width", (12, 48))
    widths = tuple(sorted(_log_uniform(low, high, rng) for _ in range(stages)))
    if widths[0] == widths[-1]:  # whose shapes do not tell norms before from norms after
        widths = (*widths[:-1], widths[-1] + 4)
    blocks = rng.randint(*_range(ranges, "blocks", (1, 2)))
    return ResNet(
        widths, blocks, task.side, 1 if task.grey else 3,
        stride=2 if task.side > 16 else 1,
        squeeze=_choice_if_asked(ranges, "squeeze", 1, rng),
        activation=_choice_if_asked(ranges, "activation", "relu", rng),
    )  # fmt: skip


def _transformer(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    heads = _choice(ranges, "heads", (2, 4), rng)
    width = heads * _choice(ranges, "head_width", (8, 12), rng)
    layers = rng.randint(*_range(ranges, "layers", (1, 3)))
    colours, patch = 1 if task.grey else 3, Transformer.patch
    taken = ((task.side // patch) ** 2, colours * patch**2, Transformer.classes)
    while width in taken:  # whose shapes do not tell the stream from tokens, pixels or classes
        width += 4 * heads
    asked = {key: _choice_if_asked(ranges, key, usual, rng) for key, (usual, *_) in _STYLES.items()}
    return Transformer(width, heads, 2 * width, layers, task.side, colours=colours, **asked)


def _decoder(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    if not task.context:
        hint = 'write task = { data = "python", context = 64 }.'
        raise UsageError("a 'decoder' reads text, and the task has no context.", hint)
    heads = _choice(ranges, "heads", (2, 4), rng)
    width = heads * _choice(ranges, "head_width", (8, 12), rng)
    layers = rng.randint(*_range(ranges, "layers", (1, 3)))
    while width in (task.context, Decoder.tokens):  # whose shapes do not tell the stream from these
        width += 4 * heads
    style = {key: _choice(ranges, key, values, rng) for key, values in _STYLES.items()}
    return Decoder(width, heads, 2 * width, layers, context=task.context, **style)


def _range(ranges: Ranges, key: str, usual: tuple[int, int]) -> tuple[int, int]:
    """The least and the most of an entry."""
    value = ranges.get(key, usual)
    whole = isinstance(value, Sequence) and all(type(n) is int for n in value)
    if not whole or len(value) != 2 or not 1 <= value[0] <= value[1]:
        raise ValueError(f"{key} must be [least, most], two positive integers, not {value!r}")
    return value[0], value[1]


def _choice(ranges: Ranges, key: str, usual: tuple[Any, ...], rng: random.Random) -> Any:
    """One of an entry's values."""
    value, kind = ranges.get(key, usual), type(usual[0])
    if isinstance(value, str) or not isinstance(value, Sequence) or {type(one) for one in value} != {kind}:
        raise ValueError(f"{key} must be a list like {list(usual)}, not {value!r}")
    return rng.choice(tuple(value))


def _choice_if_asked(ranges: Ranges, key: str, usual: Any, rng: random.Random) -> Any:
    """One of an entry's values; without the entry nothing is drawn, as before there was such an entry."""
    return _choice(ranges, key, (usual,), rng) if key in ranges else usual


def _log_uniform(low: float, high: float, rng: random.Random) -> int:
    """A multiple of 4 near a number whose logarithm is uniform."""
    return max(4, 4 * round(math.exp(rng.uniform(math.log(low), math.log(high))) / 4))


_DESIGN_HINT = 'write design = { kind = "mlp", sizes = [784, 128, 10] } and no ranges.'
_STYLES: Mapping[str, tuple[Any, ...]] = {  # of transformers; the usual choice is first
    "norm": ("layer", "rms"),
    "positions": ("learned", "rotary"),
    "feed_forward": ("gelu", "swiglu"),
    "queries": (1, 2),
    "bias": (True, False),
}
_RANGES: Mapping[str, set[str]] = {
    "mlp": {"depth", "width", "activation"},
    "cnn": {"depth", "width", "norm", "average", "activation", "separable"},
    "conv1d": {"depth", "width", "kernel", "norm", "activation"},
    "resnet": {"stages", "width", "blocks", "squeeze", "activation"},
    "recurrent": {"width", "layers", "cell"},
    "transformer": {"heads", "head_width", "layers", *_STYLES},
    "decoder": {"heads", "head_width", "layers", *_STYLES},
}
_DRAWS: Mapping[str, Callable[[Ranges, Task, random.Random], Design]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "conv1d": _conv1d,
    "resnet": _resnet,
    "recurrent": _recurrent,
    "transformer": _transformer,
    "decoder": _decoder,
}
