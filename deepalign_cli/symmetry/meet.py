"""What two specs of the same tensors both allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from deepalign_cli.symmetry.axes import Atom, Axes, Axis, changed, without_marks
from deepalign_cli.symmetry.sizes import solve_sizes
from deepalign_cli.symmetry.spec import Spec

Shapes = Mapping[str, tuple[int, ...]]


def meet(a: Spec, b: Spec, shapes: Shapes) -> Spec | None:
    r"""What moves in both: groups that differ stay in place, and marks that differ are taken off.

    Groups are compared by name and kind. None where what is left differs all the same. Where one of the two
    is right, the result is right, though less may move.

    >>> a, b = Spec.parse('[axes]\n"w" = "k r"'), Spec.parse('[axes]\n"w" = "+k 3"')
    >>> print(meet(a, b, {"w": (2, 3)}).groups())
    ('k',)
    """
    sizes = {**solve_sizes(a, shapes), **solve_sizes(b, shapes)}
    held = _turning_otherwise(a, b)
    while True:
        a, b = (one.holding({g: sizes[g] for g in held}) for one in (a, b))
        differing = _differing(a, b, shapes)
        if not differing:
            return _agreed(a, b)
        if differing <= held:
            return None
        held |= differing


def _turning_otherwise(a: Spec, b: Spec) -> set[str]:
    """The groups of other kinds in the two, and those that turn where the gains of norms are not the same."""
    groups = {g for g in {**a.kinds, **b.kinds} if a.kinds.get(g) is not b.kinds.get(g)}
    if (a.gains, a.plus_one) == (b.gains, b.plus_one):
        return groups
    undoing = [(one, n) for one in (a, b) for others in one.gains.values() for n in others]
    streams = {str(axis) for one, n in undoing for axis in one.axes.get(n, ())}
    return groups | (streams & (a.mixing | b.mixing))


def _differing(a: Spec, b: Spec, shapes: Shapes) -> set[str]:
    """The groups on axes that differ, whatever their marks; one empty name where no group is on them."""
    groups: set[str] = set()
    for name in {**a.axes, **b.axes}:
        still = tuple(Axis(((Atom(size=n),),)) for n in shapes[name])
        for one, other in zip(a.axes.get(name, still), b.axes.get(name, still), strict=True):
            if without_marks((one,)) != without_marks((other,)):
                groups |= {*one.groups(), *other.groups()} or {""}
    return groups - {""}


def _agreed(a: Spec, b: Spec) -> Spec:
    """The first spec without the scales, and without the signs, of groups that the second marks otherwise."""
    return unmarked(a, *differing_marks(a.axes, b.axes))


def differing_marks(a: Mapping[str, Axes], b: Mapping[str, Axes]) -> tuple[set[str], set[str]]:
    """The groups whose scales differ and those whose signs do, on tensors that both have."""
    scales: set[str] = set()
    signs: set[str] = set()
    for name in a.keys() & b.keys():
        for one, other in zip(_atoms(a[name]), _atoms(b[name]), strict=True):
            scales |= {one.name} if one.exponent != other.exponent else set()
            signs |= {one.name} if ("~" in one.mark) != ("~" in other.mark) else set()
    return scales, signs


def unmarked(spec: Spec, scales: set[str], signs: set[str]) -> Spec:
    """The spec without the scales and without the signs of some groups."""

    def bare(atom: Atom) -> Atom:
        scale = "" if atom.name in scales else atom.mark.lstrip("~")
        sign = "" if atom.name in signs else atom.mark.rstrip("+-")
        return replace(atom, mark=sign + scale)

    return replace(spec, axes={name: changed(axes, bare) for name, axes in spec.axes.items()})


def _atoms(axes: Axes) -> list[Atom]:
    return [atom for axis in axes for atom in axis.atoms() if atom.name]
