"""Which groups may turn: residual streams, and the dimensions of every head.

The walk proves what may be permuted. That more may turn is proposed by where groups stand, once the gains of
norms are out of the way, and proved by the network: in float64 random rotations must not change what it
computes, and a group that fails stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deepalign_cli.errors import listed
from deepalign_cli.symmetry.axes import Atom, Axis, Term, without_marks
from deepalign_cli.symmetry.kinds import CENTRED, ORTHOGONAL, ROTARY, Kind
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.check import Trial
from deepalign_cli.tracing.norm_readers import norm_readers
from deepalign_cli.tracing.program import Program

_SHOWN = 5
_HEADS, _ROTARY = "heads", "qk"  # last words of groups' names
_STREAM = "stream"
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Turning:
    """The spec in which what may turn does, and the largest change of an output by random rotations."""

    spec: Spec
    residual: float


def turning(program: Program, spec: Spec, trial: Trial) -> Turning:
    """The spec in which the groups that may turn do; the others are as in `spec`."""
    barred: dict[str, Kind | None] = {}
    while True:
        proposed = _with_reasons(proposal(program, spec, trial.shapes, barred), barred)
        if not proposed.mixing:
            return Turning(proposed, 0.0)
        residual, failed = trial.of(Symmetry(proposed, trial.shapes))
        if not failed:
            return Turning(proposed, residual)
        for group in (proposed.mixing & failed.keys()) or proposed.mixing:
            is_wide = proposed.kinds[group] is ORTHOGONAL and group not in barred
            barred[group] = (
                CENTRED if is_wide and not Symmetry(proposed, trial.shapes).within[group] else None
            )


def _with_reasons(spec: Spec, barred: Mapping[str, Kind | None]) -> Spec:
    """The spec that says which groups do not turn because the trial did not let them."""
    names = sorted(group for group, kind in barred.items() if kind is None)
    line = f"{listed(names, _SHOWN)} would change the outputs by turning" if names else ""
    return replace(spec, stays=(*spec.stays, line)) if line else spec


def proposal(program: Program, spec: Spec, shapes: Shapes, barred: Mapping[str, Kind | None]) -> Spec:
    """What may turn by where it stands. `barred` has the kinds of groups that may not be of a wider one."""
    turned = _with_rotary_heads(spec, barred)
    symmetry = Symmetry(turned, shapes)
    inner = {group: ORTHOGONAL for group in symmetry.sizes if _is_inner(symmetry, group)}
    kinds: dict[str, Kind | None] = {**inner, **dict.fromkeys(turned.mixing, ROTARY), **barred}
    kinds = {g: k for g, k in kinds.items() if g in symmetry.sizes and (g in inner or g in turned.mixing)}
    return _with_streams(program, _of_kinds(turned, kinds), shapes, barred)


def _is_inner(symmetry: Symmetry, group: str) -> bool:
    """Whether a group stands innermost behind another wherever it stands, as dimensions in heads do."""
    for place in symmetry.occurrences[group]:
        *outer, last = place.block.factors
        if last[0].name != group or not any(_is_heads(atom.name) for atom, _, _ in outer):
            return False
    return True


def _with_rotary_heads(spec: Spec, barred: Mapping[str, Kind | None]) -> Spec:
    """The spec in which numbers behind heads, which are all that rotary positions leave, are groups.

    Numbers of two sizes behind the same heads are two groups.
    """
    taken = {*spec.groups(), *(g for g, kind in barred.items() if kind is None)}
    found: dict[str, Kind] = {}
    sizes: dict[str, int] = {}

    def named(term: Term, outer: str) -> Term:
        names = [outer, *(f.name for f in term if isinstance(f, Atom) and _is_heads(f.name))]
        heads, last = names[-1], term[-1]
        if isinstance(last, Axis):
            return (*term[:-1], Axis(tuple(named(inner, heads) for inner in last.terms)))
        if not heads or last.name or last.size % 2:
            return term
        group = heads.replace(_HEADS, _ROTARY)
        if sizes.setdefault(group, last.size) != last.size:
            group = f"{group}{last.size}"
        if group in taken:
            return term
        found[group] = ROTARY
        return (*term[:-1], Atom(group))

    axes = {
        name: tuple(Axis(tuple(named(term, "") for term in axis.terms)) for axis in one)
        for name, one in spec.axes.items()
    }
    return replace(spec, axes=axes, kinds={**spec.kinds, **found})


def _is_heads(name: str) -> bool:
    return name.rpartition(".")[2] == _HEADS


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
        elif found.undone_by or group.rpartition(".")[2] == _STREAM:
            axes = {n: one for n, one in spec.axes.items() if n not in found.undone_by}
            kind = barred.get(group) or (CENTRED if found.centring else ORTHOGONAL)
            turned = _of_kinds(replace(spec, axes=axes), {group: kind})
            spec = replace(turned, gains={**spec.gains, **found.undone_by})
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
