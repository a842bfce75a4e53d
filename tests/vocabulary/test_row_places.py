from __future__ import annotations

import pytest

from deepalign_cli.vocabulary.row_places import row_places

A = {"a": 0, "b": 1, "c": 2}
B = {"c": 0, "x": 1, "a": 2, "y": 3}


def test_the_first_ones_tokens() -> None:
    placed = row_places([A, B], [3, 4], union=False)
    assert placed.rows == ([0, 1, 2], [2, -1, 0])
    assert placed.shared == ([0, 2], [2, 0])
    assert not placed.new


def test_the_union_has_new_tokens_behind() -> None:
    placed = row_places([A, B], [3, 4], union=True)
    assert placed.rows == ([0, 1, 2, -1, -1], [2, -1, 0, 1, 3])
    assert placed.new == {"x": 3, "y": 4}


def test_the_order_of_new_tokens_may_be_given() -> None:
    assert row_places([A, B], [3, 4], union=True, order=[[], ["y", "x"]]).new == {"y": 3, "x": 4}


def test_three_networks() -> None:
    c = {"z": 0, "x": 1, "a": 2}
    placed = row_places([A, B, c], [3, 4, 3], union=True)
    assert placed.new == {"x": 3, "y": 4, "z": 5}
    assert placed.rows[1:] == ([2, -1, 0, 1, 3, -1], [2, -1, -1, 1, -1, 0])
    assert placed.shared == ([0], [2], [2])


@pytest.mark.parametrize(
    ("size", "rows"),
    [
        (4, [0, 1, 2, -1, -1, 3, 3, 3]),  # 3 tokens and one row of padding: rows come in fours
        (6, [0, 1, 2, -1, -1, 5]),  # in pairs, and two of three rows of padding are taken
        (3, [0, 1, 2, -1, -1]),
        (5, [0, 1, 2, -1, -1]),
    ],
)
def test_padding_is_taken_kept_last_and_repeated(size: int, rows: list[int]) -> None:
    assert row_places([A, B], [size, 4], union=True).rows[0] == rows


def test_padding_grows_to_a_multiple_of_128_at_most() -> None:
    tokens = {str(i): i for i in range(1020)}
    other = {f"x{i}": i for i in range(10)} | {"0": 10}
    assert len(row_places([tokens, other], [1024, 11], union=True).rows[0]) == 1152


def test_rows_without_a_token_are_the_first_ones() -> None:
    a = {"a": 0, "c": 2}  # nothing has row 1
    assert row_places([a, B], [4, 4], union=False).rows == ([0, 1, 2, 3], [2, -1, 0, -1])
    assert row_places([a, B], [3, 4], union=True).rows == ([0, 1, 2, -1, -1], [2, -1, 0, 1, 3])


def test_tokens_beyond_the_rows_count_as_absent() -> None:
    assert row_places([A, B], [3, 3], union=True).new == {"x": 3}
    placed = row_places([A, {"c": 0, "a": 1}], [2, 2], union=True)
    assert placed.lost is None  # A has no row for c, and B has
    assert placed.rows == ([0, 1, -1], [1, -1, 0])
    assert row_places([A, {"a": 0}], [2, 1], union=True).lost == "c"
