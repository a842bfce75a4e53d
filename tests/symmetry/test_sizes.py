from __future__ import annotations

import pytest

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.axes import parse_axes
from deepalign_cli.symmetry.sizes import solve_sizes
from deepalign_cli.symmetry.spec import Spec


def solved(
    axes: dict[str, str], shapes: dict[str, tuple[int, ...]], sizes: dict[str, int] | None = None
) -> dict[str, int]:
    return solve_sizes(Spec({n: parse_axes(t, n) for n, t in axes.items()}, sizes=sizes or {}), shapes)


def test_sizes_follow_from_products_and_sums() -> None:
    shapes = {"c": (8, 3), "f": (10, 128), "q": (3 * 4 * 6, 24), "m": (7, 13), "e": (5, 8)}
    axes = {"c": "k 3", "f": "10 k*16", "q": "3*heads*6 d", "m": "o k|c1|o", "e": "c2|c2|c1 k"}
    with pytest.raises(SpecError):
        solved(axes, shapes)  # k|c1|o = 13 leaves no room: 8 + c1 + 7
    shapes["m"] = (3, 15)
    shapes["e"] = (10, 8)
    assert solved(axes, shapes) == {"k": 8, "heads": 4, "d": 24, "o": 3, "c1": 4, "c2": 3}


def test_sizes_follow_through_parentheses() -> None:
    axes = {"qkv": "h*(q|q|v) d", "out": "d h*v", "h": "h", "rot": "h*(q|3)*2"}
    shapes = {"qkv": (4 * 11, 6), "out": (6, 4 * 5), "h": (4,), "rot": (4 * 6 * 2,)}
    assert solved(axes, shapes) == {"h": 4, "q": 3, "v": 5, "d": 6}
    with pytest.raises(SpecError, match=r"is 41 long, which 'h\*\(q\|3\)\*2' cannot be"):
        solved(axes, shapes | {"rot": (41,)})


def test_the_order_of_the_equations_does_not_matter() -> None:
    axes, shapes = {"a": "k|h 1", "b": "h|2 1", "c": "2 k"}, {"a": (9, 1), "b": (6, 1), "c": (2, 5)}
    assert solved(axes, shapes) == {"k": 5, "h": 4}
    assert solved(dict(reversed(axes.items())), shapes) == {"k": 5, "h": 4}


def test_a_concatenation_with_open_sizes_needs_the_table() -> None:
    axes, shapes = {"dense": "k c0|c1|c2", "a": "c0"}, {"dense": (4, 12), "a": (3,)}
    with pytest.raises(
        SpecError, match="do not give the size of the group 'c1' on axis 1 of 'dense'"
    ) as caught:
        solved(axes, shapes)
    assert "[sizes] c1 = N" in caught.value.hint
    assert solved(axes, shapes, {"c1": 2}) == {"k": 4, "c0": 3, "c1": 2, "c2": 7}


def test_a_contradiction_names_both_tensors() -> None:
    with pytest.raises(SpecError) as caught:
        solved({"up": "h 5", "down": "3 h"}, {"up": (6, 5), "down": (3, 7)})
    assert "'down' is 7 long" in caught.value.message
    assert "'h' has 6 units in 'up'" in caught.value.message
    with pytest.raises(SpecError, match=r"'h' has 7 units in the table \[sizes\]"):
        solved({"up": "h 5"}, {"up": (6, 5)}, {"h": 7})


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("h*4", (10,), r"axis 0 of 'w' is 10 long, which 'h\*4' cannot be"),
        ("h|4", (4,), "cannot be"),  # an empty group is none
        ("h|h", (5,), "cannot be"),
        ("5 h", (6, 3), "axis 0 of 'w' is 6 long but '5' makes 5"),
        ("h", (3, 3), r"gives 'w' 1 axes \('h'\) but its shape is \[3, 3\]"),
    ],
)
def test_what_does_not_fit_a_shape_is_refused(text: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        solved({"w": text}, {"w": shape})


def test_tensors_that_are_not_there_are_named() -> None:
    with pytest.raises(SpecError, match="names 'v' and 1 more, which the checkpoint does not hold"):
        solved({"w": "h", "v": "h", "u": "h"}, {"w": (3,)})
