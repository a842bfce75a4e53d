"""TIES against its steps taken entry by entry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepalign_cli.combiners.ties import Ties, trimmed
from tests.combiners.builders import made
from tests.symmetry.builders import seeded


def drawn(count: int, *shape: int) -> list[Tensor]:
    return [torch.randn(*shape, generator=seeded(i), dtype=torch.float64) for i in range(count)]


def by_hand(base: Tensor, others: list[Tensor], weights: list[float], density: float, scale: float) -> Tensor:
    """The three steps of the paper's section 4, one entry after the other."""
    keep = max(1, int(density * base.numel()))
    vectors = []
    for other in others:
        vector = (other - base).flatten()
        largest = vector.abs().sort(descending=True).indices[:keep]
        vectors.append(torch.zeros_like(vector).index_copy(0, largest, vector[largest]))
    merged = []
    for entries in zip(*(v.tolist() for v in vectors), strict=True):
        total = sum(w * e for w, e in zip(weights, entries, strict=True))
        agree = [(w, e) for w, e in zip(weights, entries, strict=True) if e * total > 0]
        share = sum(w for w, _ in agree)
        merged.append(sum(w * e for w, e in agree) / share if share else 0.0)
    return base + scale * torch.tensor(merged, dtype=base.dtype).reshape(base.shape)


@pytest.mark.slow
@given(st.integers(1, 4), st.floats(0.01, 1.0), st.floats(0.1, 2.0), st.integers(0, 99))
def test_the_result_is_that_of_the_steps_taken_one_by_one(
    count: int, density: float, scale: float, seed: int
) -> None:
    base, *others = drawn(count + 1, 5, 4)
    weights = torch.rand(count, generator=seeded(seed), dtype=torch.float64).tolist()
    result = Ties(weights, [density] * count, [scale] * count)("w", [base, *others])

    assert torch.allclose(result, by_hand(base, others, weights, density, scale), atol=1e-12)


def test_weights_count_by_their_ratio() -> None:
    tensors = drawn(3, 4, 3)
    exact = made("ties", 2, weights=(3.0, 1.0), density=0.5)("w", tensors)
    assert torch.allclose(made("ties", 2, weights=(0.75, 0.25), density=0.5)("w", tensors), exact)


@settings(max_examples=30)
@given(st.integers(1, 4), st.floats(0.01, 1.0))
def test_equal_networks_are_the_trimmed_one(count: int, density: float) -> None:
    base, other = drawn(2, 3, 3)
    result = made("ties", count, density=density)("w", [base, *[other] * count])

    assert torch.allclose(result, base + trimmed(other - base, density))


def test_one_network_at_full_density_is_that_network() -> None:
    base, other = drawn(2, 3, 3)

    assert torch.allclose(made("ties", 1)("w", [base, other]), other)


def test_entries_that_disagree_are_left_out_and_where_they_cancel_the_positive_one_stays() -> None:
    base = torch.zeros(3)
    first, second = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([1.0, 2.0, -1.0])

    assert made("ties", 2)("w", [base, first, second]).tolist() == [1.0, 2.0, 3.0]


def test_each_network_has_a_density() -> None:
    base, first, second = torch.zeros(2), torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])

    assert made("ties", 2, density=(0.5, 1.0))("w", [base, first, second]).tolist() == [3.0, 3.0]


def test_of_each_task_vector_one_entry_is_left_at_least() -> None:
    assert trimmed(torch.tensor([1.0, -3.0, 2.0]), 0.01).tolist() == [0.0, -3.0, 0.0]
    assert trimmed(torch.tensor([2.0, -2.0, 2.0, 1.0]), 0.5).tolist() == [2.0, -2.0, 0.0, 0.0]
