"""Sums, means, extremes and pooling."""

from __future__ import annotations

from typing import Any

from deepalign_cli.tracing.expressions import ONE, Fixed
from deepalign_cli.tracing.labels import Labels, NoRule, Sense
from deepalign_cli.tracing.rules.rulebook import Op, dimensions, rule
from deepalign_cli.tracing.value import Labelled, Value

# What entries along *all* axes may not carry; along the reduced ones they carry nothing.
_BY_SENSE = {
    Sense.NEITHER: "sum mean",
    Sense.SIGN: "amax amin max min",
    Sense.BOTH: "argmax argmin var std var_mean std_mean any all logsumexp prod linalg_vector_norm norm",
}
_REDUCTIONS = {name: sense for sense, names in _BY_SENSE.items() for name in names.split()}
_GIVES_PLACES = ("argmax", "argmin", "max", "min")


@rule(*_REDUCTIONS)
def reduction(labels: Labels, op: Op, x: Value, *args: Any, **kwargs: Any) -> list[Labelled] | Value:
    """An axis made one place; a reduction does not care about the order along it."""
    if any(isinstance(v, Value) for v in args):
        raise NoRule
    axes = x.axes(labels)
    dims, keep = _settings(op, args, kwargs, len(axes))
    labels.zero([axes[d] for d in dims])
    labels.zero(axes, _REDUCTIONS[op.name])
    if op.is_many and op.uses(1):  # places carry no factors
        labels.zero(axes)
    if op.name.startswith("arg") or (op.is_many and op.name in _GIVES_PLACES and op.uses(1)):
        for d in dims:
            labels.freeze(axes[d], f"{op.name} gives places of the axis")
    return op.returns([ONE if i in dims else e for i, e in enumerate(axes) if keep or i not in dims])


def _settings(op: Op, args: tuple[Any, ...], kwargs: dict[str, Any], rank: int) -> tuple[list[int], bool]:
    if op.name in ("linalg_vector_norm", "norm"):
        args = args[1:]
    dims = args[0] if args and not isinstance(args[0], bool) else kwargs.get("dim")
    keep = args[1] if len(args) > 1 and isinstance(args[1], bool) else kwargs.get("keepdim", False)
    if op.name in ("var", "std", "var_mean", "std_mean") and op.overload == "correction":
        keep = kwargs.get("keepdim", False)
    return dimensions(dims, rank), bool(keep)


_POOLS = [
    *(f"{kind}_pool{n}d" for kind in ("avg", "max", "adaptive_avg", "_adaptive_avg") for n in (1, 2, 3)),
    *(f"max_pool{n}d_with_indices" for n in (2, 3)),
    *(f"adaptive_max_pool{n}d" for n in (1, 2, 3)),
]
_UPSAMPLES = (
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d"
    " _upsample_bicubic2d_aa"
    " _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d"
    " upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa"
)


@rule(*_POOLS, *_UPSAMPLES.split(), "grid_sampler_2d", "grid_sampler_3d")
def pooling(labels: Labels, op: Op, x: Value, *args: Any, **kwargs: Any) -> list[Labelled] | Value:
    """Pooling and resampling in space: channel by channel."""
    if any(isinstance(v, Value) for v in (*args, *kwargs.values())):
        raise NoRule
    axes = x.axes(labels)
    space = next(int(c) for c in op.name if c.isdigit())
    if "max" in op.name:
        labels.zero(axes, Sense.BOTH if op.is_many and op.uses(1) else Sense.SIGN)
    for d in range(len(axes) - space, len(axes)):
        labels.freeze(axes[d], "spatial axis of a pooling")
        axes[d] = Fixed(op.shape[d])
    return op.returns([*axes])
