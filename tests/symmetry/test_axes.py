from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.axes import Atom, Axes, Axis, format_axes, parse_axes, without_marks

NAMES = st.from_regex(r"[A-Za-z_][\w.]{0,8}", fullmatch=True, alphabet="akZ_.09é+*| ")
NUMBERS = st.tuples(st.just(""), st.just(""), st.integers(1, 10**12 - 1))
GROUPS = st.tuples(NAMES, st.sampled_from(["", "+", "-"]), st.just(0))
TERMS = st.lists(NUMBERS | GROUPS, min_size=1, max_size=4)
AXES = st.lists(st.lists(TERMS, min_size=1, max_size=3), max_size=4)


@pytest.mark.slow
# The types are built in the test: beartype draws random numbers, which strategies must not.
@given(AXES)
def test_what_is_written_is_read_back(parts: list[list[list[tuple[str, str, int]]]]) -> None:
    terms = [
        [{name or i: Atom(name, mark, size) for i, (name, mark, size) in enumerate(term)} for term in axis]
        for axis in parts
    ]
    axes: Axes = tuple(Axis(tuple(tuple(term.values()) for term in axis)) for axis in terms)
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


def test_marks_are_taken_off_all_but_the_groups_to_keep() -> None:
    assert format_axes(without_marks(parse_axes("+k|-h*3 7"), frozenset({"h"}))) == "k|-h*3 7"
