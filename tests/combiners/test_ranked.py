from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from deepalign_cli.combiners.ranked import largest, smallest


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.integers(-1, 14))
def test_as_many_are_chosen_as_asked_for_and_the_first_of_equal_ones(values: list[int], count: int) -> None:
    w = torch.tensor(values, dtype=torch.float32)
    order = sorted(range(len(values)), key=lambda i: values[i])
    expected = set(order[: max(0, count)])
    assert set(smallest(w, count).nonzero().flatten().tolist()) == expected
    assert torch.equal(largest(w, count), smallest(-w, count))


def test_the_shape_stays() -> None:
    w = torch.tensor([[3.0, 1.0], [2.0, 1.0]])
    assert smallest(w, 1).tolist() == [[False, True], [False, False]]
    assert largest(w, 2).tolist() == [[True, False], [True, False]]
    assert smallest(torch.tensor(5.0), 1).tolist() is True
