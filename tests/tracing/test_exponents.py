"""Exponents of groups: what is returned satisfies every equation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepalign_cli.tracing.exponents import null_vector
from deepalign_cli.tracing.expressions import Unknown, Variable, free
from deepalign_cli.tracing.labels import Labels, Sense

UNKNOWNS: list[Unknown] = [(i, ()) for i in range(6)]
rows = st.lists(st.dictionaries(st.sampled_from(UNKNOWNS), st.integers(-3, 3), max_size=4), max_size=8)


@given(rows)
def test_a_scale_satisfies_all_equations(equations: list[dict[Unknown, int]]) -> None:
    solution = null_vector(equations, UNKNOWNS)
    assert set(solution.values()) <= {-1, 0, 1}
    assert all(sum(c * solution[u] for u, c in row.items()) == 0 for row in equations)


@given(rows)
def test_a_sign_satisfies_all_equations_modulo_two(equations: list[dict[Unknown, int]]) -> None:
    solution = null_vector(equations, UNKNOWNS, 2)
    assert set(solution.values()) <= {0, 1}
    assert all(sum(c * solution[u] for u, c in row.items()) % 2 == 0 for row in equations)


def test_what_nothing_holds_takes_part() -> None:
    assert set(null_vector([], UNKNOWNS).values()) == {1}


def test_an_equation_of_axes_that_are_not_alike_holds_each_unit_down() -> None:
    from deepalign_cli.tracing.exponents import solve

    labels = Labels()
    a, b = free(4), free(4)
    labels.equations.clear()
    labels.contract(a, free(4))
    labels.zero([b], Sense.SCALE)
    variables: dict[Variable, list[Unknown]] = {b.variable: list(b.form)}  # type: ignore[union-attr]
    assert list(solve(labels.equations, variables, Sense.SCALE)[b.variable].values()) == [0]  # type: ignore[union-attr]
    assert list(solve(labels.equations, variables, Sense.SIGN)[b.variable].values()) == [1]  # type: ignore[union-attr]
