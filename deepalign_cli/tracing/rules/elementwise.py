"""Operations that treat every entry alike: activations, arithmetic, comparisons, casts."""

from __future__ import annotations

from typing import Any

from deepalign_cli.tracing.expressions import ONE, Expression, resolve, scaled
from deepalign_cli.tracing.labels import Labels, NoRule, Sense
from deepalign_cli.tracing.rules.rulebook import Op, rule
from deepalign_cli.tracing.value import Value

# For which factors an entry may not carry any, operation by operation. "Odd" functions pass signs.
_PASSES = {
    Sense.NEITHER: "neg clone alias detach lift_fresh_copy lift_fresh contiguous dropout positive",
    Sense.SIGN: "relu leaky_relu abs rrelu_with_noise",
    Sense.SCALE: "tanh sin asin atan sinh asinh atanh erf tan sgn sign round trunc erfinv",
    Sense.BOTH: "sigmoid gelu silu exp exp2 expm1 log log2 log10 log1p sqrt rsqrt elu celu selu softplus mish"
    " hardswish hardsigmoid hardtanh hardshrink softshrink relu6 threshold clamp clamp_min clamp_max logit"
    " log_sigmoid log_sigmoid_forward erfc acos acosh lgamma digamma ceil floor frac isnan isinf nan_to_num"
    " logical_not bitwise_not special_log_ndtr special_erfcx special_i0 special_i0e special_i1 special_i1e",
}  # fmt: skip
_ACTIVATIONS = {name: sense for sense, names in _PASSES.items() for name in names.split()}

_COMPARISONS = (
    "eq ne lt le gt ge logical_and logical_or logical_xor bitwise_and bitwise_or bitwise_xor __and__ __or__"
    " bitwise_left_shift bitwise_right_shift remainder fmod floor_divide atan2 fmax fmin hypot copysign xlogy"
    " logaddexp logaddexp2 masked_fill isclose lerp heaviside"
)  # fmt: skip


def aligned(operands: list[Any], labels: Labels) -> list[list[Expression | None]]:
    """The operands' axes by axis of the result; None where an operand is a number or is broadcast."""
    axes = [x.axes(labels) if isinstance(x, Value) else [] for x in operands]
    rank = max((len(a) for a in axes), default=0)
    columns: list[list[Expression | None]] = []
    for d in range(-rank, 0):
        columns.append([a[d] if len(a) >= -d and a[d].size > 1 else None for a in axes])
    return columns


def added(labels: Labels, operands: list[Any], barred: Sense = Sense.NEITHER) -> Value:
    """A sum, a maximum, a choice: exponents agree; what meets a number or is broadcast has none."""
    axes: list[Expression] = []
    for column in aligned(operands, labels):
        present = [e for e in column if e is not None]
        for other in present[1:]:
            labels.same(present[0], other)
        if present and len(present) < len(column):
            labels.zero(present[:1])
        labels.zero(present[:1], barred)
        axes.append(resolve(present[0]) if present else ONE)
    return Value([*axes])


def mixed(labels: Labels, operands: list[Any]) -> Value:
    """An operation that no factor passes: only places are alike."""
    return added(labels, operands, Sense.BOTH)


def multiplied(labels: Labels, operands: list[tuple[Any, int]]) -> Value:
    """A product of powers: exponents add up."""
    axes: list[Expression] = []
    powers = [power for _, power in operands]
    for column in aligned([x for x, _ in operands], labels):
        present = [(e, p) for e, p in zip(column, powers, strict=True) if e is not None]
        total: Expression = ONE
        for place, (e, power) in enumerate(present):
            total = labels.times(total, e, (1, power)) if place else scaled(e, power)
        axes.append(resolve(total))
    return Value([*axes])


@rule(*_ACTIVATIONS)
def activation(labels: Labels, op: Op, x: Value, *args: Any, **kwargs: Any) -> Any:
    """A function of one argument."""
    if any(isinstance(v, Value) for v in (*args, *kwargs.values())):  # clamp with tensors as limits
        return mixed(labels, [x, *(v for v in (*args, *kwargs.values()) if isinstance(v, Value))])
    sense = _ACTIVATIONS[op.name]
    if not sense:
        return op.returns(x.lazy)
    axes = x.axes(labels)
    labels.zero(axes, sense)
    return op.returns(axes)


@rule("cos", "cosh")
def even(labels: Labels, op: Op, x: Value) -> Value:
    """An even function: it forgets signs."""
    axes = x.axes(labels)
    labels.zero(axes, Sense.SCALE)
    return Value([scaled(e, 2) for e in axes])


@rule("add", "sub", "rsub")
def add(labels: Labels, op: Op, a: Any, b: Any, alpha: Any = 1) -> Value:
    """A sum or a difference."""
    return added(labels, [a, b])


@rule("maximum", "minimum")
def extreme(labels: Labels, op: Op, a: Any, b: Any) -> Value:
    """The larger or the smaller of two entries."""
    return added(labels, [a, b], Sense.SIGN)


@rule(*_COMPARISONS.split())
def compare(labels: Labels, op: Op, *operands: Any, **kwargs: Any) -> Value:
    """A comparison, or anything else that no factor passes."""
    return mixed(labels, [*operands, *(v for v in kwargs.values() if isinstance(v, Value))])


@rule("mul", "multiply")
def multiply(labels: Labels, op: Op, a: Any, b: Any) -> Value:
    """An element-wise product."""
    return multiplied(labels, [(a, 1), (b, 1)])


@rule("div", "true_divide", "divide")
def divide(labels: Labels, op: Op, a: Any, b: Any, rounding_mode: str | None = None) -> Value:
    """A quotient."""
    return mixed(labels, [a, b]) if rounding_mode else multiplied(labels, [(a, 1), (b, -1)])


@rule("reciprocal")
def reciprocal(labels: Labels, op: Op, x: Value) -> Value:
    """One over x."""
    return multiplied(labels, [(x, -1)])


@rule("square")
def square(labels: Labels, op: Op, x: Value) -> Value:
    """X times x."""
    return multiplied(labels, [(x, 2)])


@rule("pow")
def power(labels: Labels, op: Op, x: Any, exponent: Any) -> Value:
    """A power; factors pass where the exponent is a whole number."""
    if isinstance(x, Value) and isinstance(exponent, int | float) and exponent == int(exponent):
        return multiplied(labels, [(x, int(exponent))])
    return mixed(labels, [x, exponent])


@rule("_prelu_kernel", "prelu")
def prelu(labels: Labels, op: Op, x: Value, slopes: Value) -> Value:
    """Slopes for negative entries, by channel; they pass scales."""
    columns = aligned([x, slopes], labels)
    for e, slope in columns:
        if e is not None and slope is not None:
            labels.unify(e, slope)
            labels.zero([slope])
        labels.zero([e] if e is not None else [], Sense.SIGN)
    return Value([resolve(e) if e is not None else ONE for e, _ in columns])


@rule("where")
def where(labels: Labels, op: Op, condition: Value, a: Any, b: Any) -> Value:
    """Entries of one or the other."""
    labels.zero(condition.axes(labels))
    chosen = added(labels, [a, b])
    axes: list[Expression] = []
    for asked, e in aligned([condition, chosen], labels):
        if asked is not None and e is not None:
            labels.unify(asked, e)
        elif asked is None and e is None:
            axes.append(ONE)
            continue
        axes.append(resolve(e if e is not None else asked))  # type: ignore[arg-type]
    return Value([*axes])


@rule("_to_copy", "to")
def cast(labels: Labels, op: Op, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Another type; integers carry no factors."""
    result = op.results[0]
    if result is None or not result.is_floating_point():
        labels.zero(x.axes(labels))
    return Value(list(x.lazy))


@rule("copy")
def copied(labels: Labels, op: Op, target: Value, source: Value, non_blocking: bool = False) -> Value:
    """Entries written over others: only the new ones count."""
    if op.argument(0).shape != op.argument(1).shape or not op.argument(0).is_floating_point():
        raise NoRule
    return Value(list(source.lazy))
