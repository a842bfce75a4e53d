"""Solving the groups' sizes from the tensors' shapes, with errors that name both tensors."""

from __future__ import annotations

from collections.abc import Mapping

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.axes import Axis, format_axes
from deepalign_cli.symmetry.blocks import extent
from deepalign_cli.symmetry.spec import Spec

_MISSING = "`deepalign inspect A` lists the checkpoint's tensors; take the others out of the spec."
_HINT = "compare the spec with `deepalign inspect A`; every axis must multiply out to the tensor's extent."


def solve_sizes(spec: Spec, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The size of every group of `spec`.

    Raises:
        SpecError: a tensor is missing, a rank differs, two tensors contradict each other, or the shapes
            do not give a size.
    """
    _check_ranks(spec, shapes)
    equations = [
        (name, number, axis, shapes[name][number])
        for name, axes in spec.axes.items()
        for number, axis in enumerate(axes)
    ]
    sizes, sources = dict(spec.sizes), dict.fromkeys(spec.sizes, "the table [sizes]")
    unsolved, before = equations, len(equations) + 1
    while unsolved and len(unsolved) < before:
        waiting, before = [], len(unsolved)
        for equation in unsolved:
            name, number, axis, length = equation
            unknown = set(axis.groups()) - set(sizes)
            if len(unknown) == 1:
                group = unknown.pop()
                sizes[group] = _solve(axis, group, length, sizes, f"axis {number} of '{name}'")
                sources[group] = f"'{name}'"
            elif unknown:
                waiting.append(equation)
        unsolved = waiting
    if unsolved:
        name, number, axis, _ = unsolved[0]
        group = next(g for g in axis.groups() if g not in sizes)
        message = f"the shapes do not give the size of the group '{group}' on axis {number} of '{name}'."
        raise SpecError(message, f"write it: [sizes] {group} = N.")
    for name, number, axis, length in equations:
        _check(name, number, axis, length, sizes, sources)
    return {group: sizes[group] for group in spec.groups()}


def _check_ranks(spec: Spec, shapes: Mapping[str, tuple[int, ...]]) -> None:
    missing = [name for name in spec.axes if name not in shapes]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SpecError(f"the spec names '{missing[0]}'{more}, which the checkpoint does not hold.", _MISSING)
    for name, axes in spec.axes.items():
        if len(axes) != len(shapes[name]):
            raise SpecError(
                f"the spec gives '{name}' {len(axes)} axes ('{format_axes(axes)}') "
                f"but its shape is {list(shapes[name])}.",
                _HINT,
            )


def _solve(axis: Axis, group: str, length: int, sizes: Mapping[str, int], where: str) -> int:
    rest, with_one = (extent(axis, {**sizes, group: size}) for size in (0, 1))  # no product has it twice
    size, remainder = divmod(length - rest, with_one - rest)
    if remainder or size < 1:
        raise SpecError(f"{where} is {length} long, which '{axis}' cannot be.", _HINT)
    return size


def _check(
    name: str, number: int, axis: Axis, length: int, sizes: Mapping[str, int], sources: Mapping[str, str]
) -> None:
    total = extent(axis, sizes)
    if total != length:
        groups = dict.fromkeys(axis.groups())
        known = "; ".join(f"'{g}' has {sizes[g]} units in {sources[g]}" for g in groups)
        message = f"axis {number} of '{name}' is {length} long but '{axis}' makes {total}"
        raise SpecError(f"{message}{f': {known}' if known else ''}.", _HINT)
