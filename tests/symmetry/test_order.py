from __future__ import annotations

import pytest

from deepalign_cli.symmetry import order
from deepalign_cli.symmetry.order import SearchBudgetError, chain_orders

Ends = list[tuple[int, int]]  # what each layer reads and writes


def orders(paths: list[str], ends: Ends, contiguous: bool = False, limit: int = 9) -> list[list[str]]:
    def feeds(i: int, j: int) -> bool:
        return ends[i][1] == ends[j][0]

    return [
        [paths[i] for i in chain] for chain in chain_orders(paths, feeds, contiguous=contiguous, limit=limit)
    ]


def test_shapes_alone_can_fix_the_order() -> None:
    assert orders(["c", "a", "b"], [(2, 3), (5, 1), (3, 5)]) == [["c", "b", "a"]]


def test_all_orders_are_found_up_to_the_limit_the_natural_one_first() -> None:
    square = [(4, 4)] * 3
    assert len(orders(["a", "b", "c"], square)) == 6
    assert orders(["b", "c", "a"], square, limit=2)[0] == ["a", "b", "c"]
    assert len(orders(["a", "b", "c"], square, limit=2)) == 2


def test_numbers_are_respected() -> None:
    assert orders(["fc10", "fc2", "fc1"], [(4, 4)] * 3) == [["fc1", "fc2", "fc10"]]
    assert orders(["fc1", "fc2"], [(3, 4), (2, 3)]) == []  # the shapes want it the other way round


def test_layers_of_one_word_stay_together_if_asked() -> None:
    paths, square = ["f.1", "f.2", "c.1", "c.2"], [(4, 4)] * 4
    assert orders(paths, square, contiguous=True) == [
        ["c.1", "c.2", "f.1", "f.2"],
        ["f.1", "f.2", "c.1", "c.2"],
    ]
    assert len(orders(paths, square)) == 6


def test_nothing_is_one_empty_order() -> None:
    assert orders([], []) == [[]]


def test_a_hopeless_search_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_BUDGET", 1000)
    paths = list("abcdefghijk")
    with pytest.raises(SearchBudgetError):
        orders([*paths, "z"], [(4, 4)] * len(paths) + [(5, 5)])
