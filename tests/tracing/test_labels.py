"""Expressions and their unification, against lists of the places that they stand for."""

from __future__ import annotations

import itertools
import random

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


def axis(size: int, rng: random.Random, depth: int = 2) -> Expression:
    """A random axis of this size."""
    kinds = ["fixed", "free"]
    pairs = [(p, size // p) for p in range(2, size) if size % p == 0]
    if depth and size > 1:
        kinds += ["sum"] + ["product"] * (2 * bool(pairs))
    kind = rng.choice(kinds)
    if kind == "fixed":
        return Fixed(size)
    if kind == "free":
        return free(size)
    if kind == "sum":
        left = rng.randrange(1, size)
        return concatenation([axis(left, rng, depth - 1), axis(size - left, rng, depth - 1)])
    p, q = rng.choice(pairs)
    return product([axis(p, rng, depth - 1), axis(q, rng, depth - 1)])


SIZES = st.sampled_from([1, 2, 3, 4, 6, 8, 12])
SEEDS = st.integers(0, 10**6)


@given(SIZES, SEEDS)
def test_a_resolved_axis_is_canonical(size: int, seed: int) -> None:
    e = axis(size, random.Random(seed))
    once = resolve(e)
    assert places(resolve(once)) == places(e)
    assert len(places(once)) == once.size == e.size
    if isinstance(once, Product):
        assert not isinstance(once.parts[0], Concatenation)
        assert not any(isinstance(part, Product) for part in once.parts)
    if isinstance(once, Concatenation):
        assert not any(isinstance(part, Concatenation) for part in once.parts)


@given(SIZES, SEEDS)
def test_a_cut_gives_the_places_before_and_behind(size: int, seed: int) -> None:
    rng = random.Random(seed)
    e, place = axis(size, rng), rng.randrange(size + 1)
    left, right = Labels().cut(e, place)
    assert (left.size, right.size) == (place, e.size - place)
    assert places(left) + places(right) == places(e)


@given(SIZES, SEEDS)
def test_factors_give_the_places_in_row_major_order(size: int, seed: int) -> None:
    rng = random.Random(seed)
    e, outer = axis(size, rng), rng.choice([n for n in range(1, size + 1) if size % n == 0])
    parts = Labels().factors(e, [outer, e.size // outer])
    assert [part.size for part in parts] == [outer, e.size // outer]
    assert places(product(parts)) == places(e)


@settings(max_examples=300)
@given(SIZES, SEEDS)
def test_unified_axes_have_the_same_places(size: int, seed: int) -> None:
    rng = random.Random(seed)
    a, b = axis(size, rng), axis(size, rng)
    Labels().unify(a, b)
    assert places(a) == places(b)
    assert len(places(a)) == a.size


@settings(max_examples=200)
@given(SIZES, SEEDS)
def test_nothing_becomes_free_again(size: int, seed: int) -> None:
    labels, rng = Labels(), random.Random(seed)
    a, b, c = (axis(size, rng) for _ in range(3))
    labels.unify(a, b)
    before = [place == () for place in places(a)]
    labels.unify(b, c)
    assert places(a) == places(b) == places(c)
    assert all(place == () for place, was in zip(places(a), before, strict=True) if was)


@given(SIZES, SEEDS)
def test_a_frozen_axis_has_no_units(size: int, seed: int) -> None:
    e = axis(size, random.Random(seed))
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
