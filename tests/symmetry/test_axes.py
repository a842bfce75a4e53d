from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.axes import DEEPEST, Atom, Axes, Axis, format_axes, parse_axes, without_marks

NAMES = st.from_regex(r"[A-Za-z_][\w.]{0,8}", fullmatch=True, alphabet="akZ_.09é+*| ")
NUMBERS = st.tuples(st.just(""), st.just(""), st.integers(1, 10**12 - 1))
GROUPS = st.tuples(NAMES, st.sampled_from(["", "+", "-", "~", "~+", "~-"]), st.just(0))
SUMS = st.recursive(
    NUMBERS | GROUPS,
    lambda factor: st.lists(st.lists(factor, min_size=1, max_size=3), min_size=1, max_size=3),
    max_leaves=12,
)
AXES = st.lists(st.lists(st.lists(SUMS, min_size=1, max_size=3), min_size=1, max_size=3), max_size=3)


@pytest.mark.slow
# The types are built in the test: beartype draws random numbers, which strategies must not.
@given(AXES)
@settings(max_examples=30)
def test_what_is_written_is_read_back(parts: list[list[list[Any]]]) -> None:
    count = itertools.count()

    def factor(part: Any) -> Atom | Axis:
        if isinstance(part, list):
            return axis(part)
        name, mark, size = part
        return Atom(f"{name}{next(count)}" if name else "", mark, size)  # no group meets itself

    def axis(terms: list[list[Any]]) -> Axis:
        return Axis(tuple(tuple(map(factor, term)) for term in terms))

    axes: Axes = tuple(map(axis, parts))
    assert parse_axes(format_axes(axes)) == axes


def test_a_line_is_read_as_sums_of_products() -> None:
    k, heads = Atom("k"), Atom("heads", "-")
    assert parse_axes("10  k|3*-heads*64") == (
        Axis(((Atom(size=10),),)),
        Axis(((k,), (Atom(size=3), heads, Atom(size=64)))),
    )
    assert parse_axes("") == ()  # a scalar


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "k*",
        "*k",
        "k||h",
        "|k",
        "k|",
        "k**h",
        "3k",
        "+3",
        "-",
        "k-",
        "k,h",
        "k+h",
        "h*()",
        "(k|)",
        "+~k",
        "~",
        "~3",
        "~-",
        "--k",
        "1" * 13,
        "é",
        "k*ké!",
    ],
)
def test_what_is_not_in_the_grammar_is_refused_by_name(text: str) -> None:
    with pytest.raises(SpecError, match=r"'fc\.weight' is neither a number nor a group's name") as caught:
        parse_axes(f"10 {text}", "fc.weight")
    assert caught.value.exit_code == 3


def test_a_group_stands_once_in_a_product_but_often_in_a_sum() -> None:
    with pytest.raises(SpecError, match="'k\\*2\\*k' of 'w' multiplies a group by itself"):
        parse_axes("k*2*k", "w")
    assert list(parse_axes("k|k")[0].groups()) == ["k", "k"]


def test_a_sum_in_parentheses_is_a_factor() -> None:
    h, q, k = Atom("h"), Atom("q", "~+"), Atom("k")
    inner = Axis(((q,), (k, Atom(size=3))))
    assert parse_axes("h*(~+q|k*3)*2 (k)") == (Axis(((h, inner, Atom(size=2)),)), Axis(((Axis(((k,),)),),)))


@pytest.mark.parametrize(
    "text", ["(k", "k)", "h*(q|k", "h*(q|k))", "2(k|h)", "(k)(h)", "(k)h", "k(", "( k )", "h*(q |k)"]
)
def test_parentheses_must_match_and_stand_in_products(text: str) -> None:
    with pytest.raises(SpecError, match=r"of 'w' (do not match|is neither)"):
        parse_axes(text, "w")


@pytest.mark.parametrize("text", ["k*(2|k)", "(k|h)*(2|k)", "2*((k|3)*(h|k*2))", "k*(2*(3*(4|k)))"])
def test_a_group_may_not_meet_itself_through_parentheses(text: str) -> None:
    with pytest.raises(SpecError, match="multiplies a group by itself"):
        parse_axes(text, "w")
    assert parse_axes("(k|h)*2|k*(h|3)|k")


def test_hostile_texts_are_refused() -> None:
    deepest = "(" * DEEPEST + "k" + ")" * DEEPEST
    assert format_axes(parse_axes(deepest)) == deepest
    for text in (f"({deepest})", "(" * 100_000, "2*(" * 50_000 + "k" + ")" * 50_000):
        with pytest.raises(SpecError, match="nests parentheses too deeply") as caught:
            parse_axes(text, "w")
        assert len(caught.value.message) < 300
    with pytest.raises(SpecError, match="has too many parts"):
        parse_axes("*".join(["(1|1)"] * 40), "w")


def test_marks_are_taken_off_all_but_the_groups_to_keep() -> None:
    axes = parse_axes("+k|-h*3 7 ~k*(~+h|~-p)")
    assert format_axes(without_marks(axes, frozenset({"h"}))) == "k|-h*3 7 k*(~+h|p)"
