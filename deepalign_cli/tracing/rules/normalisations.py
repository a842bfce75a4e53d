"""Normalisations: what they divide by forgets scales; gains and shifts behind them carry them."""

from __future__ import annotations

from typing import Any

from deepalign_cli.tracing.expressions import ONE, Expression, Fixed, bare, product, resolve
from deepalign_cli.tracing.labels import Labels, Sense
from deepalign_cli.tracing.rules.rulebook import Op, rule
from deepalign_cli.tracing.value import Labelled, Value


def affine(labels: Labels, e: Expression, gain: Expression | None, shift: Expression | None) -> Expression:
    """An axis behind a gain and a shift."""
    if gain is not None:
        e = labels.times(e, gain)
    if shift is not None:
        labels.same(e, shift)
    return resolve(e)


def _axis(labels: Labels, x: Any, place: int = 0) -> Expression | None:
    return x.axes(labels)[place] if isinstance(x, Value) else None


@rule("_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "native_batch_norm", "batch_norm")
def batch_norm(
    labels: Labels, op: Op, x: Value, gain: Any, shift: Any, *settings: Any
) -> list[Labelled] | Value:
    """Channels by their own statistics: signs pass into the running mean, scales do not."""
    axes = x.axes(labels)
    statistics = [_axis(labels, s) for s in settings[:2] if isinstance(s, Value)]
    for statistic in statistics:
        assert statistic is not None
        labels.unify(axes[1], statistic)
    if len(statistics) == 2:
        mean, variance = statistics
        assert mean is not None
        assert variance is not None
        labels.same(axes[1], mean)
        labels.zero([variance])
    labels.zero(axes, Sense.SCALE)
    labels.zero([axes[0], *axes[2:]])
    axes[1] = affine(labels, axes[1], _axis(labels, gain), _axis(labels, shift))
    if not op.is_many:
        return Value([*axes])
    saved = [r for r in op.results[1:] if r is not None]
    return [Value([*axes]), *(Value([bare(axes[1])] if r.numel() else [Fixed(0)]) for r in saved)]


@rule("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm")
def layer_norm(
    labels: Labels, op: Op, x: Value, shape: list[int], gain: Any = None, shift: Any = None, *eps: Any
) -> list[Labelled] | Value:
    """The last axes by their mean and deviation."""
    axes = x.axes(labels)
    labels.zero(axes)
    for d in range(-len(shape), 0):
        axes[d] = affine(labels, bare(axes[d]), _axis(labels, gain, d), _axis(labels, shift, d))
    if not op.is_many:
        return Value([*axes])
    statistic = Value([*axes[: -len(shape)], *[ONE] * len(shape)])
    return [Value([*axes]), *(Value(list(statistic.lazy)) for _ in op.results[1:])]


@rule("native_group_norm", "group_norm")
def group_norm(
    labels: Labels, op: Op, x: Value, gain: Any, shift: Any, batch: int, channels: int, places: int,
    groups: int, eps: float,
) -> list[Labelled]:  # fmt: skip
    """Blocks of channels by their mean and deviation: blocks move as wholes, channels within them."""
    axes = x.axes(labels)
    labels.zero(axes)
    blocks = labels.factors(axes[1], [groups, channels // groups])
    axes[1] = product([resolve(e) for e in blocks])
    axes[1] = affine(labels, bare(axes[1]), _axis(labels, gain), _axis(labels, shift))
    statistics = [Value([axes[0], Fixed(groups)]) for _ in op.results[1:]]
    return [Value([*axes]), *statistics]


@rule("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax")
def softmax(labels: Labels, op: Op, x: Value, *settings: Any, **kwargs: Any) -> Value:
    """Shares of a whole: places may change, factors may not be there."""
    axes = x.axes(labels)
    labels.zero(axes)
    return Value([*axes])
