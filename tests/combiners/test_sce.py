from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepalign_cli.combiners.sce import mean_squares, selected, variance
from deepalign_cli.errors import UsageError
from tests.combiners.builders import drawn, made
from tests.symmetry.builders import seeded


def test_the_entries_are_selected_that_vary_most_of_those_that_vary() -> None:
    first, second = torch.tensor([[1.0, 2.0, 5.0, 3.0, 0.0], [1.0, 5.0, 4.0, -4.0, 2.0]])
    vectors = torch.stack([first, second])  # they differ by 0, 3, 1, 7, 2
    assert selected(vectors, 0.5).tolist() == [[0, 2, 0, 3, 0], [0, 5, 0, -4, 0]]
    assert selected(vectors, 0.2).count_nonzero() == 0
    assert torch.equal(selected(vectors, 1.0), vectors)


@given(st.integers(1, 5), st.integers(1, 9))
def test_the_variance_is_torchs_and_0_where_all_are_equal(count: int, seed: int) -> None:
    vectors = torch.randn(count, 7, 3, generator=seeded(seed))
    vectors[:, 2] = vectors[0, 2].clone()
    assert torch.allclose(variance(vectors), vectors.var(0, unbiased=False), rtol=1e-6, atol=0)
    assert variance(vectors)[2].tolist() == [0.0] * 3


def test_weights_are_mean_squares_and_equal_where_these_are_tiny() -> None:
    vectors = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    assert mean_squares(vectors) == pytest.approx([1 / 6, 5 / 6])
    assert mean_squares(vectors * 1e-4) == [0.5, 0.5]


def test_what_agrees_is_averaged_by_these_weights() -> None:
    base = torch.tensor([10.0, 10.0, 10.0])
    first, second = base + torch.tensor([1.0, -1.0, 2.0]), base + torch.tensor([3.0, 3.0, -1.0])
    weights = (6.0, 19.0)  # over 25; the sums are 4, 2 and 1
    merged = made("sce", 2)("w", [base, first, second])
    assert merged.tolist() == pytest.approx([10 + (6 * 1 + 19 * 3) / sum(weights), 13.0, 12.0])


def test_equal_networks_are_themselves() -> None:
    base, network = drawn(2)
    assert torch.allclose(made("sce", 3)("w", [base, network, network, network]), network, atol=1e-6)


def test_statistics_are_averaged_evenly() -> None:
    tensors = [torch.full((2,), v) for v in (9.0, 1.0, 4.0)]
    assert made("sce", 2)("bn.running_mean", tensors).tolist() == [2.5, 2.5]


def test_one_density_is_for_all() -> None:
    assert made("sce", 2, density=(0.5, 0.5))
    with pytest.raises(UsageError, match="it takes one density"):
        made("sce", 2, density=(0.5, 0.4))
