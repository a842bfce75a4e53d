"""Operations that take pieces of axes or put them together: select, slice, split, cat, pad."""

from __future__ import annotations

import math
from typing import Any

from deepalign_cli.tracing.expressions import (
    ONE,
    Expression,
    Fixed,
    Form,
    concatenation,
    free,
    product,
    resolve,
)
from deepalign_cli.tracing.labels import Labels, NoRule
from deepalign_cli.tracing.rules.rulebook import Op, rule
from deepalign_cli.tracing.value import Labelled, Unfolded, Unfolding, Value


@rule("select")
def select(labels: Labels, op: Op, x: Value, dim: int, index: int) -> Value:
    """One place of an axis."""
    dim %= x.rank
    return selected(labels, x, dim, int(index) % x.lazy[dim].size)


def selected(labels: Labels, x: Value, dim: int, index: int) -> Value:
    """One place of an axis; the axis that a waiting view unfolds is cut, instead of made a product."""
    part = x.lazy[dim]
    if isinstance(part, Unfolded) and part.view.parts is None:
        try:
            return _cut_view(labels, x, part, index)
        except NoRule:
            x.axes(labels)
    axes = x.axes(labels)
    labels.piece(axes[dim], index, 1)
    return Value([*axes[:dim], *axes[dim + 1 :]])


def _cut_view(labels: Labels, x: Value, part: Unfolded, index: int) -> Value:
    waiting, place = part.view, part.place
    outer: Expression = ONE
    rest = waiting.axis
    if place:
        outer, rest = labels.factored(waiting.axis, math.prod(waiting.sizes[:place]))
        waiting.axis = product([resolve(outer), resolve(rest)])
    inner = rest.size // waiting.sizes[place]
    piece = labels.piece(rest, index * inner, inner)
    before = Unfolding(outer, waiting.sizes[:place])
    behind = Unfolding(piece, waiting.sizes[place + 1 :])
    axes: list[Expression | Unfolded] = []
    for e in x.lazy:
        if e is part:
            continue
        if isinstance(e, Unfolded) and e.view is waiting:
            e = Unfolded(before, e.place) if e.place < place else Unfolded(behind, e.place - place - 1)
        axes.append(e)
    return Value(axes)


@rule("slice")
def slice_(
    labels: Labels, op: Op, x: Value, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    """Places in a row, or every so many."""
    dim %= x.rank
    length = x.lazy[dim].size
    start, end, _ = slice(start, None if end is None else min(int(end), length)).indices(length)
    if step == 1 and (start, end) == (0, length):
        return Value(list(x.lazy))
    if step == 1 and end - start == 1 and isinstance(x.lazy[dim], Unfolded):
        axes = selected(labels, x, dim, start).lazy
        return Value([*axes[:dim], ONE, *axes[dim:]])
    whole = x.axes(labels)
    piece: Expression = Fixed(op.shape[dim])
    if step == 1:
        piece = labels.piece(whole[dim], start, end - start)
    elif length % step == 0 and start < step and end == length:
        piece, inner = labels.factors(whole[dim], [length // step, step])
        labels.freeze(inner, "a strided slice")
    else:
        labels.freeze(whole[dim], "a strided slice")
    return Value([*whole[:dim], piece, *whole[dim + 1 :]])


@rule("unbind")
def unbind(labels: Labels, op: Op, x: Value, dim: int = 0) -> list[Labelled]:
    """All places of an axis."""
    dim %= x.rank
    return [selected(labels, Value(list(x.lazy)), dim, i) for i in range(len(op.results))]


@rule("split_with_sizes", "split", "chunk", "tensor_split")
def split(labels: Labels, op: Op, x: Value, sizes: Any, dim: int = 0) -> list[Labelled]:
    """An axis in pieces."""
    axes, pieces = x.axes(labels), list[Labelled]()
    dim %= len(axes)
    rest = axes[dim]
    for result in op.results:
        assert result is not None
        piece, rest = labels.cut(rest, int(result.shape[dim]))
        pieces.append(Value([*axes[:dim], piece, *axes[dim + 1 :]]))
    return pieces


@rule("cat", "concat")
def cat(labels: Labels, op: Op, values: list[Value], dim: int = 0) -> Value:
    """Values side by side along an axis."""
    columns = [v.axes(labels) for v in values if not (v.rank == 1 and v.lazy[0].size == 0)]
    first, *others = columns
    dim %= len(first)
    for i, e in enumerate(first):
        for other in others:
            if i != dim:
                labels.same(e, other[i])
    joined = concatenation([resolve(axes[dim]) for axes in columns])
    return Value([joined if i == dim else resolve(e) for i, e in enumerate(first)])


@rule("constant_pad_nd")
def pad(labels: Labels, op: Op, x: Value, widths: list[int], fill: Any = 0) -> Value:
    """Places of one number before and behind; zeros may carry any factor."""
    axes = x.axes(labels)
    if fill:
        labels.zero(axes)
    for i in range(len(widths) // 2):
        low, high, d = int(widths[2 * i]), int(widths[2 * i + 1]), len(axes) - 1 - i
        e = axes[d]
        if low < 0:
            e, low = labels.cut(e, -low)[1], 0
        if high < 0:
            e, high = labels.cut(e, e.size + high)[0], 0
        form: Form | None = {} if fill else None
        before, behind = ([free(n, form)] if n else [] for n in (low, high))
        axes[d] = concatenation([*before, resolve(e), *behind])
    return Value([*axes])


@rule("reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d", "replication_pad2d",
      "replication_pad3d")  # fmt: skip
def reflect(labels: Labels, op: Op, x: Value, widths: list[int]) -> Value:
    """Padding by what is there."""
    axes = x.axes(labels)
    for d in range(len(axes) - len(widths) // 2, len(axes)):
        labels.freeze(axes[d], "padding by reflection")
        axes[d] = Fixed(op.shape[d])
    return Value([*axes])


@rule("slice_scatter")
def slice_scatter(
    labels: Labels, op: Op, x: Value, source: Value, dim: int = 0, start: Any = None, end: Any = None,
    step: int = 1,
) -> Value:  # fmt: skip
    """Places in a row written over."""
    if step != 1:
        raise NoRule
    axes, new = x.axes(labels), source.axes(labels)
    dim %= len(axes)
    length = axes[dim].size
    start, end, _ = slice(start, None if end is None else min(int(end), length)).indices(length)
    for i, (e, other) in enumerate(zip(axes, new, strict=True)):
        if i != dim:
            labels.same(e, other)
    left, rest = labels.cut(axes[dim], start)
    right = labels.cut(rest, end - start)[1]
    axes[dim] = concatenation([resolve(e) for e in (left, new[dim], right)])
    return Value([resolve(e) for e in axes])


@rule("select_scatter")
def select_scatter(labels: Labels, op: Op, x: Value, source: Value, dim: int, index: int) -> Value:
    """One place written over."""
    dim %= x.rank
    index = int(index) % x.lazy[dim].size
    row = Value([*source.lazy[:dim], ONE, *source.lazy[dim:]])
    written: Value = slice_scatter(labels, op, x, row, dim, index, index + 1)
    return written
