"""Scales and signs: the exponents that satisfy all equations, group by group.

An exponent is -1, 0 or 1: a tensor is divided by a unit's factor, not touched, or multiplied. For scales
the equations hold over the rationals, for signs modulo 2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from deepalign_cli.tracing.expressions import Form, Unknown, Variable, resolve, units_of
from deepalign_cli.tracing.labels import Equation, Sense

Row = dict[Unknown, Fraction]
Exponents = Mapping[Unknown, int]


def solve(
    equations: Iterable[Equation], unknowns: Mapping[Variable, Sequence[Unknown]], sense: Sense
) -> dict[Variable, Exponents]:
    """For every group, exponents of its unknowns that satisfy all equations, as many as can be not zero."""
    systems: dict[Variable, list[Form]] = {group: [] for group in unknowns}
    for equation in equations:
        if sense in equation.sense:
            for variable, row in _rows(equation):
                if variable in systems:
                    systems[variable].append(row)
    modulus = 2 if sense is Sense.SIGN else 0
    return {group: null_vector(rows, unknowns[group], modulus) for group, rows in systems.items()}


def _rows(equation: Equation) -> list[tuple[Variable, Form]]:
    """One row a variable; where the axes are not alike, every exponent must be zero by itself."""
    sides = [(c, list(units_of(resolve(e)))) for c, e in equation.terms]
    first = [u.variable for u in sides[0][1]]
    if any([u.variable for u in units] != first for _, units in sides):
        return [(u.variable, u.form) for _, units in sides for u in units]
    rows: list[tuple[Variable, Form]] = []
    for place, variable in enumerate(first):
        row: dict[Unknown, int] = defaultdict(int)
        for c, units in sides:
            for unknown, v in units[place].form.items():
                row[unknown] += c * v
        rows.append((variable, row))
    return rows


def null_vector(rows: Iterable[Form], unknowns: Sequence[Unknown], modulus: int = 0) -> Exponents:
    """A solution of homogeneous equations with values -1, 0, 1, greedy for few zeros.

    >>> a, b, c = (1, ()), (2, ()), (3, ())
    >>> null_vector([{a: 1, b: 1}, {c: 1}], [a, b, c])
    {(1, ()): 1, (2, ()): -1, (3, ()): 0}
    """
    solved = _eliminated(rows, unknowns, modulus)
    columns: dict[Unknown, Row] = defaultdict(dict)
    for u in unknowns:
        for free, v in solved.get(u, {u: Fraction(1)}).items():
            columns[free][u] = v
    values = dict.fromkeys(unknowns, Fraction(0))
    for column in columns.values():
        for step in (1, -1):
            trial = {u: _modulo(values[u] + step * v, modulus) for u, v in column.items()}
            fits = all(v in (-1, 0, 1) for v in trial.values())
            if fits and sum(map(bool, trial.values())) > sum(bool(values[u]) for u in trial):
                values |= trial
                break
    return {u: int(v) for u, v in values.items()}


def _eliminated(rows: Iterable[Form], unknowns: Sequence[Unknown], modulus: int) -> dict[Unknown, Row]:
    """Gauss-Jordan elimination: every dependent unknown as a combination of free ones."""
    order = {u: i for i, u in enumerate(unknowns)}
    solved: dict[Unknown, Row] = {}
    uses: dict[Unknown, set[Unknown]] = defaultdict(set)
    for form in rows:
        row = _substituted(form, solved, modulus)
        if not row:
            continue
        pivot = max(row, key=lambda u: order.get(u, len(order)))
        c = row.pop(pivot)
        fresh = {u: _modulo(-v / c, modulus) for u, v in row.items()}
        solved[pivot] = fresh
        for u in fresh:
            uses[u].add(pivot)
        for dependent in uses.pop(pivot, ()):
            before = solved[dependent]
            times = before.pop(pivot)
            for u, v in fresh.items():
                if total := _modulo(before.get(u, Fraction(0)) + times * v, modulus):
                    before[u] = total
                    uses[u].add(dependent)
                else:
                    before.pop(u, None)
                    uses[u].discard(dependent)
    return solved


def _substituted(form: Form, solved: Mapping[Unknown, Row], modulus: int) -> Row:
    row: Row = defaultdict(Fraction)
    for u, c in form.items():
        for free, v in solved.get(u, {u: Fraction(1)}).items():
            row[free] += c * v
    return {u: w for u, v in row.items() if (w := _modulo(v, modulus))}


def _modulo(v: Fraction, modulus: int) -> Fraction:
    return v % modulus if modulus else v
