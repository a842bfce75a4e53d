"""What a walk found, as a spec: axes in the grammar, marks for signs and scales, and what stays and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deepalign_cli.symmetry.axes import parse_axes
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.tracing.exponents import Exponents, solve
from deepalign_cli.tracing.expressions import (
    Concatenation,
    Expression,
    Fixed,
    Product,
    Units,
    Unknown,
    Variable,
    resolve,
    units_of,
)
from deepalign_cli.tracing.labels import Labels, Sense
from deepalign_cli.tracing.naming import named_groups
from deepalign_cli.tracing.walk import Walked


@dataclass(frozen=True, repr=False)
class Traced:
    """A spec by tracing. `stays` has, by reason, the tensors' axes that are labelled.

    `unknown` counts operations without a rule, by operation and module; `unreached` are the tensors that
    nothing read. `residual` is the largest change of an output, relative to their spread, that random
    elements made in `runs` runs in float64. `turned` is the spec in which what may turn does, where that was
    asked for.
    """

    spec: Spec
    stays: Mapping[str, Sequence[tuple[str, int]]] = field(default_factory=dict)
    unknown: Mapping[str, int] = field(default_factory=dict)
    unreached: Sequence[str] = ()
    nodes: int = 0
    residual: float | None = None
    runs: int = 0
    turned: Spec | None = None

    def __repr__(self) -> str:
        units = sum(self.spec.sizes.values())
        checked = f"; checked on {self.runs} inputs, residual {self.residual:.1e}" if self.runs else ""
        groups, moving = len(self.spec.sizes), len(self.spec.axes)
        return f"Traced({groups} groups of {units} units; {moving} tensors move{checked})"


def write(walked: Walked, nodes: int = 0, source: str = "a trace") -> Traced:
    """The spec that a walk leaves."""
    while _frozen_squares(walked):
        pass
    tensors = {name: [resolve(e) for e in axes] for name, axes in walked.roots.items()}
    names = named_groups(tensors)
    scales, signs = _exponents(walked.labels, tensors, names)
    text = _Text(names, scales, signs)
    axes = {
        name: parse_axes(" ".join(map(text.axis, es)), name)
        for name, es in tensors.items()
        if any(True for e in es for _ in units_of(e))
    }
    sizes = {name: variable.size for variable, name in names.items()}
    spec = Spec(axes, sizes=sizes, source=source, basis=Basis.TRACED)
    return Traced(spec, _stays(walked), dict(walked.unknown), tuple(walked.unreached), nodes)


def _exponents(
    labels: Labels, tensors: Mapping[str, Sequence[Expression]], names: Mapping[Variable, str]
) -> tuple[Mapping[Variable, Exponents], Mapping[Variable, Exponents]]:
    unknowns: dict[Variable, dict[Unknown, None]] = {variable: {} for variable in names}
    for axes in tensors.values():
        for units in (u for e in axes for u in units_of(e)):
            unknowns[units.variable].update(dict.fromkeys(units.form))
    ordered = {variable: list(keys) for variable, keys in unknowns.items()}
    return tuple(solve(labels.equations, ordered, sense) for sense in (Sense.SCALE, Sense.SIGN))  # type: ignore[return-value]


@dataclass(frozen=True)
class _Text:
    """Expressions in the grammar of axes."""

    names: Mapping[Variable, str]
    scales: Mapping[Variable, Exponents]
    signs: Mapping[Variable, Exponents]

    def axis(self, e: Expression) -> str:
        """A whole axis."""
        if isinstance(e, Concatenation):
            return "|".join(map(self.axis, e.parts))
        if isinstance(e, Product):
            factors = [(self.axis(part), isinstance(part, Concatenation)) for part in e.parts]
            return "*".join(f"({text})" if nested else text for text, nested in factors)
        return str(e.size) if isinstance(e, Fixed) else self._mark(e) + self.names[e.variable]

    def _mark(self, units: Units) -> str:
        scale, sign = (
            sum(c * solution[units.variable].get(u, 0) for u, c in units.form.items())
            for solution in (self.scales, self.signs)
        )
        return ("~" if sign % 2 else "") + {0: "", 1: "+", -1: "-"}[scale]


def _frozen_squares(walked: Walked) -> bool:
    """Freeze groups that would stand twice in a product; whether there were any."""
    walked.labels.where = ""
    found = False
    for axes in walked.roots.values():
        for e in axes:
            for variables in _paths(resolve(e)):
                if len(variables) != len(set(variables)):
                    walked.labels.freeze(e, "a group times itself, which the notation cannot say")
                    found = True
    return found


def _paths(e: Expression) -> Iterator[list[Variable]]:
    """The groups of every row-major path through an axis."""
    if isinstance(e, Units):
        yield [e.variable]
    elif isinstance(e, Concatenation):
        for part in e.parts:
            yield from _paths(part)
    elif isinstance(e, Product):
        paths: list[list[Variable]] = [[]]
        for part in e.parts:
            if not isinstance(part, Fixed):
                paths = [[*before, *path] for before in paths for path in _paths(part)]
        yield from paths


def _stays(walked: Walked) -> dict[str, list[tuple[str, int]]]:
    """Labelled axes by the reasons that froze them; what is labelled from the start has none."""
    stays: dict[str, list[tuple[str, int]]] = {}
    for name, axes in walked.roots.items():
        for number, e in enumerate(axes):
            for reason in dict.fromkeys(_reasons(e)):
                stays.setdefault(reason, []).append((name, number))
    return stays


def _reasons(e: Expression | None) -> Iterator[str]:
    if isinstance(e, Units):
        if e.variable.reason:
            yield e.variable.reason
        else:
            yield from _reasons(e.variable.bound)
    elif isinstance(e, Product | Concatenation):
        for part in e.parts:
            yield from _reasons(part)
