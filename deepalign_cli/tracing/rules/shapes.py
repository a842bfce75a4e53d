"""Operations that only rename places: views, permutations, broadcasts, repeats."""

from __future__ import annotations

import math
from typing import Any

from deepalign_cli.tracing.expressions import ONE, Expression, free, product, resolve
from deepalign_cli.tracing.labels import Labels, NoRule, extent
from deepalign_cli.tracing.rules.rulebook import Op, dimensions, rule
from deepalign_cli.tracing.value import Unfolded, Unfolding, Value


@rule("view", "reshape", "_unsafe_view", "_reshape_alias", "unflatten", "flatten")
def view(labels: Labels, op: Op, x: Value, *args: Any, **kwargs: Any) -> Value:
    """Axes joined and split in row-major order; splits wait until something needs them."""
    if op.overload == "dtype" or 0 in op.shape:
        raise NoRule
    old = [e for e in x.axes(labels) if e.size != 1]
    new = [n for n in op.shape if n != 1]
    cells: list[Expression | Unfolded] = []
    while old:
        block, sizes = [old.pop(0)], [new.pop(0)]
        while extent(block) != math.prod(sizes):
            if extent(block) < math.prod(sizes):
                block.append(old.pop(0))
            else:
                sizes.append(new.pop(0))
        joined = product([resolve(e) for e in block])
        if len(sizes) == 1:
            cells.append(joined)
        else:
            waiting = Unfolding(joined, sizes)
            cells += [Unfolded(waiting, place) for place in range(len(sizes))]
    axes = iter(cells)
    return Value([ONE if n == 1 else next(axes) for n in op.shape])


@rule("permute")
def permute(labels: Labels, op: Op, x: Value, dims: list[int]) -> Value:
    """Axes in another order."""
    return Value([x.lazy[d] for d in dims])


@rule("t", "numpy_T", "mT")
def transpose_all(labels: Labels, op: Op, x: Value) -> Value:
    """A matrix transposed."""
    if op.name == "mT" and x.rank != 2:
        raise NoRule
    return Value(x.lazy[::-1])


@rule("transpose", "swapaxes")
def transpose(labels: Labels, op: Op, x: Value, first: int, second: int) -> Value:
    """Two axes exchanged."""
    axes = list(x.lazy)
    axes[first], axes[second] = axes[second], axes[first]
    return Value(axes)


@rule("unsqueeze")
def unsqueeze(labels: Labels, op: Op, x: Value, dim: int) -> Value:
    """A new axis of one place."""
    axes = list(x.lazy)
    axes.insert(dim % (len(axes) + 1), ONE)
    return Value(axes)


@rule("squeeze")
def squeeze(labels: Labels, op: Op, x: Value, dims: Any = None) -> Value:
    """Axes of one place taken away."""
    drop = range(x.rank) if dims is None else dimensions(dims, x.rank) if dims != [] else []
    return Value([e for i, e in enumerate(x.lazy) if not (i in drop and e.size == 1)])


@rule("expand")
def expand(labels: Labels, op: Op, x: Value, shape: Any, implicit: bool = False) -> Value:
    """Axes of one place made longer: what is alike everywhere may move freely."""
    axes, out = x.axes(labels), list[Expression]()
    for d in range(-len(op.shape), 0):
        e = axes[d] if len(axes) >= -d else ONE
        out.append(free(op.shape[d], {}) if e.size == 1 else e)
    return Value([*out])


@rule("repeat")
def repeat(labels: Labels, op: Op, x: Value, counts: list[int]) -> Value:
    """Copies one after another."""
    if 0 in op.shape:
        raise NoRule
    axes = [*[ONE] * (len(counts) - x.rank), *x.axes(labels)]
    return Value([product([free(int(n), {}), resolve(e)]) for n, e in zip(counts, axes, strict=True)])


@rule("as_strided")
def as_strided(labels: Labels, op: Op, x: Value, shape: Any, stride: Any, offset: Any = None) -> Value:
    """Only where it changes nothing."""
    before = op.argument(0)
    steps = zip(before.shape, before.stride(), stride, strict=True)
    if list(shape) != list(before.shape) or offset or any(n > 1 and a != b for n, a, b in steps):
        raise NoRule
    return Value(list(x.lazy))
