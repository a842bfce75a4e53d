"""Operations that ask *where* something stands: lookups, gathers, orders."""

from __future__ import annotations

from typing import Any

import torch

from deepalign_cli.tracing.expressions import Expression, Fixed, resolve
from deepalign_cli.tracing.labels import Labels, NoRule
from deepalign_cli.tracing.rules.elementwise import mixed
from deepalign_cli.tracing.rules.rulebook import Op, dimensions, rule
from deepalign_cli.tracing.value import Labelled, Uniform, Value, labelled


@rule("embedding")
def embedding(labels: Labels, op: Op, weight: Value, index: Value, *args: Any, **kwargs: Any) -> Value:
    """Rows of a table by number."""
    rows, columns = weight.axes(labels)
    labels.freeze(rows, "rows of an embedding")
    places = index.axes(labels)
    labels.zero(places)
    return Value([*places, columns])


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(
    labels: Labels, op: Op, weight: Value, index: Value, offsets: Value, *args: Any, **kwargs: Any
) -> list[Labelled]:
    """Sums of rows of a table."""
    rows, columns = weight.axes(labels)
    for e in (rows, *index.axes(labels), *offsets.axes(labels)):
        labels.freeze(e, "rows of an embedding")
    if any(isinstance(v, Value) for v in args):  # weights of the samples
        raise NoRule
    labels.zero([columns])  # one mode is a maximum
    first = Value([Fixed(op.shape[0]), columns])
    return [first, *(labelled(r.shape) if r is not None else None for r in op.results[1:])]


@rule("index_select")
def index_select(labels: Labels, op: Op, x: Value, dim: int, index: Value) -> Value:
    """Places of an axis by number."""
    return indexed(labels, op, x, [*[None] * (dim % x.rank), index])


@rule("index", "_unsafe_index")
def index(labels: Labels, op: Op, x: Value, indices: list[Value | None]) -> Value:
    """Places of several axes by number."""
    if any(node.meta["val"].dtype == torch.bool for node in op.node.all_input_nodes[1:]):
        raise NoRule
    return indexed(labels, op, x, indices)


def indexed(labels: Labels, op: Op, x: Value, indices: list[Value | None]) -> Value:
    """The axes that are indexed are labelled; the numbers' own axes take their place."""
    axes = x.axes(labels)
    at = [i for i, v in enumerate(indices) if v is not None]
    for i in at:
        labels.freeze(axes[i], "an axis that is indexed")
    places = mixed(labels, [indices[i] for i in at]).axes(labels)
    rest = [e for i, e in enumerate(axes) if i not in at]
    front = at[0] if at == list(range(at[0], at[-1] + 1)) else 0
    return Value([*rest[:front], *places, *rest[front:]])


@rule("gather")
def gather(labels: Labels, op: Op, x: Value, dim: int, index: Value, sparse_grad: bool = False) -> Value:
    """Places of one axis by number, for every place of the others."""
    axes, places = x.axes(labels), index.axes(labels)
    dim %= max(len(axes), 1)
    labels.zero(places)
    out: list[Expression] = []
    for i, (e, place) in enumerate(zip(axes, places, strict=True)):
        if i == dim:
            labels.freeze(e, "an axis that is gathered from")
        elif e.size == place.size:
            labels.unify(e, place)
        else:
            labels.freeze(e, "an axis that is gathered from")
            labels.freeze(place, "an axis that is gathered from")
        out.append(place if i == dim or e.size != place.size else resolve(e))
    return Value([*out])


@rule("sort")
def sort(labels: Labels, op: Op, x: Value, *args: Any, **kwargs: Any) -> list[Labelled]:
    """Sorted values have forgotten the order that they came in; the places they came from have not."""
    axes = x.axes(labels)
    given = [a for a in args if isinstance(a, int) and not isinstance(a, bool)]
    d = dimensions(given[0] if given else kwargs.get("dim", -1), len(axes))[0]
    labels.zero(axes)
    if op.uses(1):
        labels.freeze(axes[d], "sort gives places of the axis")
    out = [Fixed(e.size) if i == d else e for i, e in enumerate(axes)]
    return [Value([*out]) for _ in op.results]


@rule("cumsum", "cumprod", "logcumsumexp", "flip", "roll", "topk", "argsort", "cummax", "cummin", "kthvalue")
def ordered(labels: Labels, op: Op, x: Value, *args: Any, **kwargs: Any) -> list[Labelled] | Value:
    """Operations for which the order along an axis counts."""
    axes = x.axes(labels)
    dims = dimensions(_along(op.name, args, kwargs), len(axes))
    for d in dims:
        labels.freeze(axes[d], f"{op.name} over the axis")
    if op.name not in ("flip", "roll", "cumsum"):
        labels.zero(axes)
    out = [
        Value([Fixed(int(r.shape[i])) if i in dims else e for i, e in enumerate(axes)])
        for r in op.results
        if r is not None
    ]
    return [*out] if op.is_many else out[0]


def _along(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if name == "roll":
        return args[1] if len(args) > 1 else kwargs.get("dims", [])
    if name in ("topk", "kthvalue"):
        return args[1] if len(args) > 1 else kwargs.get("dim", -1)
    if name == "argsort" and args and isinstance(args[0], bool):
        return args[1] if len(args) > 1 else kwargs.get("dim", -1)
    return args[0] if args else kwargs.get("dim", kwargs.get("dims", -1))


@rule("arange", "linspace", "eye", "tril_indices", "triu_indices")
def numbered(labels: Labels, op: Op, *args: Any, **kwargs: Any) -> Value:
    """Numbers that are places."""
    return labelled(op.shape)


@rule("full", "zeros", "ones", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like",
      "scalar_tensor")  # fmt: skip
def uniform(labels: Labels, op: Op, *args: Any, **kwargs: Any) -> Uniform:
    """One number everywhere."""
    if "zeros" in op.name or "ones" in op.name:
        return Uniform(float("ones" in op.name))
    fill = args[0] if op.name == "scalar_tensor" else args[2] if op.name == "new_full" else args[1]
    if not isinstance(fill, bool | int | float):
        raise NoRule
    return Uniform(float(fill))
