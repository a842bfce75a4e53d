"""What may turn by where it stands; whether it does, the network is asked.

Proposed are: dimensions that stand innermost behind heads; numbers there that rotary positions leave; the
heads of queries behind each head of keys, in an order of their own; groups between two linear maps, such as
the values of an attention of one head; and streams, once the gains of norms are taken into what reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from deepalign_cli.symmetry.axes import Atom, Axis, without_marks
from deepalign_cli.symmetry.kinds import CENTRED, ORTHOGONAL, SORTED, Kind
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.norm_readers import norm_readers
from deepalign_cli.tracing.program import Program
from deepalign_cli.tracing.rotary_numbers import is_heads, with_rotary_groups

_STREAM = "stream"  # the last word of a group's name
Shapes = Mapping[str, tuple[int, ...]]


def proposal(program: Program, spec: Spec, shapes: Shapes, barred: Mapping[str, Kind | None]) -> Spec:
    """What may turn by where it stands. `barred` has the kinds of groups that may not be of a wider one."""
    turned = with_rotary_groups(spec, shapes, barred)
    symmetry = Symmetry(turned, shapes)
    kinds: dict[str, Kind | None] = {}
    for group in symmetry.sizes:
        is_last = all(p.number + 1 == len(p.block.factors) for p in symmetry.occurrences[group])
        if is_last and (_is_inner(symmetry, group) or _is_linear(spec, group)):
            kinds[group] = ORTHOGONAL
        elif _is_shared(symmetry, group):
            kinds[group] = SORTED
    kinds |= {group: turned.kinds[group] for group in turned.mixing}
    kinds |= {group: barred[group] for group in kinds.keys() & barred.keys()}
    return _with_streams(program, _of_kinds(turned, kinds), shapes, barred)


def is_stream(group: str) -> bool:
    """Whether a group's name says that it is a residual stream."""
    return group.rpartition(".")[2] == _STREAM


def _is_inner(symmetry: Symmetry, group: str) -> bool:
    """Whether a group stands behind heads wherever it stands, as dimensions in heads do."""
    places = symmetry.occurrences[group]
    return all(any(is_heads(a.name) for a, _, _ in p.block.factors[: p.number]) for p in places)


def _is_shared(symmetry: Symmetry, group: str) -> bool:
    """Whether a group stands between heads and something else wherever it stands: heads of queries."""
    is_between = all(p.number + 1 < len(p.block.factors) for p in symmetry.occurrences[group])
    return is_between and _is_inner(symmetry, group) and not is_heads(group)


def _is_linear(spec: Spec, group: str) -> bool:
    """Whether a group stands between linear maps by its marks: any scale and any sign of a unit is undone.

    Of a stream what reads it tells.
    """
    atoms = [a for axes in spec.axes.values() for axis in axes for a in axis.atoms() if a.name == group]
    exponents = {atom.exponent for atom in atoms}
    return exponents == {1, -1} and all("~" in atom.mark for atom in atoms) and not is_stream(group)


def _of_kinds(spec: Spec, kinds: Mapping[str, Kind | None]) -> Spec:
    """The spec whose groups are of these kinds, without the marks of those that turn."""
    mixed = {group: kind for group, kind in kinds.items() if kind is not None}
    keep = frozenset(spec.groups()).difference(mixed)
    axes = {name: without_marks(one, keep) for name, one in spec.axes.items()}
    others = {group: kind for group, kind in spec.kinds.items() if group not in kinds}
    return replace(spec, axes=axes, kinds={**others, **mixed})


def _with_streams(program: Program, spec: Spec, shapes: Shapes, barred: Mapping[str, Kind | None]) -> Spec:
    """The spec in which streams turn whose norms' gains can be taken into the layers behind."""
    tied = _tied(program)
    for group in spec.groups():
        alone = {n for n, one in spec.axes.items() if [*map(str, without_marks(one))] == [group]}
        every = {n for n, one in spec.axes.items() if any(group in axis.groups() for axis in one)}
        stands = all(_stands_alone(spec, name, group) for name in every)
        if not stands or barred.get(group, ORTHOGONAL) is None or group in spec.mixing:
            continue
        found = norm_readers(program, {name: tied[name] for name in alone if name in tied})
        if found.seen_by:
            gain, why = next(iter(sorted(found.seen_by.items())))
            spec = replace(spec, stays=(*spec.stays, f"{group} does not turn: of '{gain}', {why}"))
        elif found.undone_by or is_stream(group):
            axes = {n: one for n, one in spec.axes.items() if n not in found.undone_by}
            kind = barred.get(group) or (CENTRED if found.centring else ORTHOGONAL)
            turned = _of_kinds(replace(spec, axes=axes), {group: kind})
            spec = replace(
                turned, gains={**spec.gains, **found.undone_by}, plus_one=spec.plus_one | found.plus_one
            )
    return spec


def _stands_alone(spec: Spec, name: str, group: str) -> bool:
    """Whether a group is never a factor of a product in a tensor."""
    return all(
        term == (term[0],) and isinstance(term[0], Atom)
        for axis in spec.axes[name]
        for term in axis.terms
        if any(isinstance(f, Atom) and f.name == group for f in Axis((term,)).atoms())
    )


def _tied(program: Program) -> dict[str, tuple[str, ...]]:
    """For every tensor of the module all names that it has."""
    names: dict[int, list[str]] = {}
    for name, w in program.state().items():
        names.setdefault(w.untyped_storage()._cdata, []).append(name)
    return {name: tuple(own) for own in names.values() for name in own}
