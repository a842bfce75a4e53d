"""Matrix products, convolutions and attention: sums over an axis of two factors."""

from __future__ import annotations

import itertools
from typing import Any

from deepalign_cli.tracing.expressions import ONE, Expression, Fixed, bare, product, resolve
from deepalign_cli.tracing.labels import Labels, NoRule
from deepalign_cli.tracing.rules.elementwise import added, mixed
from deepalign_cli.tracing.rules.rulebook import Op, rule
from deepalign_cli.tracing.value import Value


def matrix_product(labels: Labels, x: list[Expression], y: list[Expression]) -> Value:
    """The axes of x @ y."""
    if len(x) == 1 or len(y) == 1:
        raise NoRule
    labels.contract(x[-1], y[-2])
    batch = [_both(labels, a, b) for a, b in itertools.zip_longest(x[-3::-1], y[-3::-1], fillvalue=ONE)]
    return Value([resolve(e) for e in (*batch[::-1], x[-2], y[-1])])


def _both(labels: Labels, a: Expression, b: Expression) -> Expression:
    if a.size > 1 and b.size > 1:
        return labels.times(a, b)
    return a if a.size > 1 else b


@rule("mm", "bmm", "matmul")
def matmul(labels: Labels, op: Op, x: Value, y: Value) -> Value:
    """A matrix product."""
    return matrix_product(labels, x.axes(labels), y.axes(labels))


@rule("mv", "dot")
def vector_product(labels: Labels, op: Op, x: Value, y: Value) -> Value:
    """A matrix or a vector times a vector."""
    a, b = x.axes(labels), y.axes(labels)
    labels.contract(a[-1], b[0])
    return Value([*a[:-1]])


@rule("addmm", "baddbmm")
def addmm(labels: Labels, op: Op, bias: Value, x: Value, y: Value, beta: Any = 1, alpha: Any = 1) -> Value:
    """A matrix product and a shift."""
    return added(labels, [matrix_product(labels, x.axes(labels), y.axes(labels)), bias])


@rule("linear")
def linear(labels: Labels, op: Op, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """X W^T + b."""
    if weight.rank != 2 or x.rank < 1:
        raise NoRule
    axes, (out, into) = x.axes(labels), weight.axes(labels)
    labels.contract(axes[-1], into)
    y = Value([resolve(e) for e in (*axes[:-1], out)])
    return y if bias is None else added(labels, [y, bias])


@rule("convolution")
def convolution(
    labels: Labels, op: Op, x: Value, weight: Value, bias: Value | None, stride: list[int],
    padding: list[int], dilation: list[int], transposed: bool, output_padding: list[int], groups: int,
) -> Value:  # fmt: skip
    """A convolution, grouped or not, or its transpose."""
    axes, w = x.axes(labels), weight.axes(labels)
    for e in w[2:]:
        labels.freeze(e, "a kernel's rows and columns")
    outer_x, inner_x = labels.factors(axes[1], [groups, axes[1].size // groups])
    outer_w, inner_w = labels.factors(w[0], [groups, w[0].size // groups])
    into, out = (inner_w, w[1]) if transposed else (w[1], inner_w)
    labels.contract(inner_x, into)
    both = labels.times(outer_x, outer_w) if groups > 1 else ONE
    result = [axes[0], product([resolve(both), resolve(out)])]
    for i, e in enumerate(axes[2:]):
        settings = (one[i % len(one)] for one in (stride, padding))
        if w[2 + i].size == 1 and tuple(settings) == (1, 0) and not transposed:
            result.append(e)
        else:
            labels.freeze(e, "spatial axis of a convolution")
            result.append(Fixed(op.shape[2 + i]))
    if bias is not None:
        labels.same(result[1], bias.axes(labels)[0])
        labels.zero([result[0], *result[2:]])
    return Value([resolve(e) for e in result])


@rule("scaled_dot_product_attention")
def attention(
    labels: Labels, op: Op, query: Value, key: Value, values: Value, mask: Value | None = None,
    dropout_p: float = 0.0, is_causal: bool = False, scale: Any = None, enable_gqa: bool = False,
) -> Value:  # fmt: skip
    """softmax(q k^T) v by head; several query heads may share one key head."""
    q, k, v = (x.axes(labels) for x in (query, key, values))
    heads = [_heads(labels, *axes) for axes in zip(q[:-2], k[:-2], v[:-2], strict=True)]
    labels.contract(q[-1], k[-1])
    labels.same(k[-2], v[-2])
    labels.zero([q[-2], k[-2]])
    if is_causal:
        labels.freeze(q[-2], "a causal mask")
        labels.freeze(k[-2], "a causal mask")
    if mask is not None:
        scores = Value([resolve(e) for e in (*map(bare, q[:-2]), q[-2], k[-2])])
        mixed(labels, [scores, mask])
    return Value([resolve(e) for e in (*heads, q[-2], v[-1])])


def _heads(labels: Labels, q: Expression, k: Expression, v: Expression) -> Expression:
    """A leading axis of the result."""
    if k.size != v.size or q.size % k.size:
        raise NoRule
    labels.zero([q, k])
    if q.size == k.size:
        labels.unify(q, k)
        return labels.times(bare(q), v)
    shared, repeats = labels.factors(q, [k.size, q.size // k.size])
    labels.unify(shared, k)
    labels.unify(shared, v)
    return product([labels.times(bare(shared), v), bare(repeats)])
