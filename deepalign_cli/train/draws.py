"""Drawing designs at random from a recipe's ranges, one function a kind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from deepalign_cli.errors import UsageError
from deepalign_cli.evaluate.designs import Design, design_of
from deepalign_cli.evaluate.designs.cnn import CNN
from deepalign_cli.evaluate.designs.mlp import MLP
from deepalign_cli.evaluate.designs.resnet import ResNet
from deepalign_cli.evaluate.designs.transformer import Transformer
from deepalign_cli.train.tasks import Task

Ranges = Mapping[str, Any]


def draw_design(kind: str, ranges: Ranges, task: Task, rng: random.Random) -> Design:
    """A design of `kind` for a task; ranges that are not given have the usual small values.

    Raises:
        UsageError: the kind is not known, or a range is not usable.
    """
    if kind not in _DRAWS:
        return design_of({"kind": kind, **ranges})
    unknown = sorted(set(ranges) - _RANGES[kind])
    if unknown:
        raise UsageError(
            f"'{kind}' has no range '{unknown[0]}'.", f"one of {', '.join(sorted(_RANGES[kind]))}."
        )
    try:
        return _DRAWS[kind](ranges, task, rng)
    except (TypeError, ValueError, IndexError) as error:
        raise UsageError(
            f"the ranges of '{kind}' are not usable: {error}.", "write depth = [2, 7]."
        ) from None


def _mlp(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    depth = rng.randint(*ranges.get("depth", (2, 7)))
    low, high = ranges.get("width", (32, 256))
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
    depth = rng.randint(*ranges.get("depth", (2, 5)))
    low, high = ranges.get("width", (12, 48))
    if rng.random() < 0.4:
        widths = [_log_uniform(low, high, rng)] * depth
    else:
        widths = sorted(_log_uniform(low, high, rng) for _ in range(depth))
    pools = tuple(sorted(rng.sample(range(1, depth + 1), 2)))
    return CNN(
        (1 if task.grey else 3, *widths), task.side,
        norm=_choice(ranges, "norm", (False, True), rng),
        average=_choice(ranges, "average", (False, True), rng), pools=pools,
    )  # fmt: skip


def _resnet(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    stages = rng.randint(*ranges.get("stages", (2, 3)))
    low, high = ranges.get("width", (12, 48))
    widths = tuple(sorted(_log_uniform(low, high, rng) for _ in range(stages)))
    if widths[0] == widths[-1]:  # whose shapes do not tell norms before from norms after
        widths = (*widths[:-1], widths[-1] + 4)
    blocks = rng.randint(*ranges.get("blocks", (1, 2)))
    return ResNet(widths, blocks, task.side, 1 if task.grey else 3, stride=2 if task.side > 16 else 1)


def _transformer(ranges: Ranges, task: Task, rng: random.Random) -> Design:
    heads = _choice(ranges, "heads", (2, 4), rng)
    width = heads * _choice(ranges, "head_width", (8, 12), rng)
    layers = rng.randint(*ranges.get("layers", (1, 3)))
    if width == (task.side // Transformer.patch) ** 2:  # whose shapes do not tell tokens from the stream
        width += 4 * heads
    return Transformer(width, heads, 2 * width, layers, task.side, colours=1 if task.grey else 3)


def _choice(ranges: Ranges, key: str, usual: tuple[Any, ...], rng: random.Random) -> Any:
    return rng.choice(tuple(ranges.get(key, usual)))


def _log_uniform(low: float, high: float, rng: random.Random) -> int:
    """A whole number that a multiple of 4 is near enough to."""
    return max(4, 4 * round(math.exp(rng.uniform(math.log(low), math.log(high))) / 4))


_RANGES: Mapping[str, set[str]] = {
    "mlp": {"depth", "width", "activation"},
    "cnn": {"depth", "width", "norm", "average"},
    "resnet": {"stages", "width", "blocks"},
    "transformer": {"heads", "head_width", "layers"},
}
_DRAWS: Mapping[str, Callable[[Ranges, Task, random.Random], Design]] = {
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet": _resnet,
    "transformer": _transformer,
}
