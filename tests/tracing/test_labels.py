"""Expressions and their unification, against lists of the places that they stand for."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepalign_cli.tracing.expressions import (
    Concatenation,
    Expression,
    Fixed,
    Product,
    Units,
    concatenation,
    free,
    product,
    resolve,
)
from deepalign_cli.tracing.labels import Labels, NoRule

Place = tuple[object, ...]


def places(e: Expression) -> list[Place]:
    """Every place of an axis by what stands there: variables with the number of the unit, or nothing."""
    e = resolve(e)
    if isinstance(e, Fixed):
        return [()] * e.size
    if isinstance(e, Units):
        return [((e.variable.number, i),) for i in range(e.size)]
    if isinstance(e, Concatenation):
        return [place for part in e.parts for place in places(part)]
    return [tuple(itertools.chain(*row)) for row in itertools.product(*map(places, e.parts))]


def variables(e: Expression) -> set[object]:
    """The free variables of an axis."""
    return {unit for place in places(e) for unit, _ in place}  # type: ignore[misc]


@st.composite
def axes(draw: st.DrawFn, size: int, depth: int = 2) -> Expression:
    """An axis of this size."""
    kinds = ["fixed", "free"]
    pairs = [(p, size // p) for p in range(2, size) if size % p == 0]
    if depth and size > 1:
        kinds += ["sum"] + ["product"] * bool(pairs)
    kind = draw(st.sampled_from(kinds))
    if kind == "fixed":
        return Fixed(size)
    if kind == "free":
        return free(size)
    if kind == "sum":
        left = draw(st.integers(1, size - 1))
        return concatenation([draw(axes(left, depth - 1)), draw(axes(size - left, depth - 1))])
    p, q = draw(st.sampled_from(pairs))
    return product([draw(axes(p, depth - 1)), draw(axes(q, depth - 1))])


sized = st.sampled_from([1, 2, 3, 4, 6, 8, 12]).flatmap(axes)


@given(sized)
def test_a_resolved_axis_is_canonical(e: Expression) -> None:
    once = resolve(e)
    assert places(resolve(once)) == places(e)
    assert len(places(once)) == once.size == e.size
    if isinstance(once, Product):
        assert not isinstance(once.parts[0], Concatenation)
        assert not any(isinstance(part, Product) for part in once.parts)
    if isinstance(once, Concatenation):
        assert not any(isinstance(part, Concatenation) for part in once.parts)


@given(sized, st.data())
def test_a_cut_gives_the_places_before_and_behind(e: Expression, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, e.size))
    left, right = Labels().cut(e, place)
    assert (left.size, right.size) == (place, e.size - place)
    assert places(left) + places(right) == places(e)


@given(sized, st.data())
def test_factors_give_the_places_in_row_major_order(e: Expression, data: st.DataObject) -> None:
    outer = data.draw(st.sampled_from([n for n in range(1, e.size + 1) if e.size % n == 0]))
    parts = Labels().factors(e, [outer, e.size // outer])
    assert [part.size for part in parts] == [outer, e.size // outer]
    assert places(product(parts)) == places(e)


@settings(max_examples=300)
@given(st.sampled_from([2, 3, 4, 6, 8, 12]).flatmap(lambda n: st.tuples(axes(n), axes(n))))
def test_unified_axes_have_the_same_places(pair: tuple[Expression, Expression]) -> None:
    a, b = pair
    Labels().unify(a, b)
    assert places(a) == places(b)
    assert len(places(a)) == a.size


@settings(max_examples=200)
@given(st.sampled_from([4, 6, 12]).flatmap(lambda n: st.tuples(axes(n), axes(n), axes(n))))
def test_nothing_becomes_free_again(three: tuple[Expression, Expression, Expression]) -> None:
    labels = Labels()
    a, b, c = three
    labels.unify(a, b)
    before = [place == () for place in places(a)]
    labels.unify(b, c)
    assert places(a) == places(b) == places(c)
    assert all(place == () for place, was in zip(places(a), before, strict=True) if was)


@given(sized)
def test_a_frozen_axis_has_no_units(e: Expression) -> None:
    labels = Labels()
    labels.where = "cumsum in head"
    labels.freeze(e, "its order counts")
    assert variables(e) == set()


def test_axes_of_two_sizes_are_not_unified() -> None:
    with pytest.raises(NoRule):
        Labels().unify(free(3), free(4))


def test_a_group_inside_itself_is_frozen() -> None:
    e = free(4)
    left, right = Labels().factors(e, [2, 2])
    labels = Labels()
    labels.unify(left, right)  # a * a
    assert places(e) == places(product([left, right]))
    whole = free(4)
    labels.unify(whole, concatenation([whole, Fixed(0)]))
    assert len(variables(whole)) == 1


def test_two_products_of_different_blocks_are_frozen() -> None:
    labels = Labels()
    a, b = product([free(2), free(3)]), product([free(3), free(2)])
    labels.unify(a, b)
    assert variables(a) == variables(b) == set()
