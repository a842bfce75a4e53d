from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepalign_cli.combiners.breadcrumbs import middle
from tests.combiners.builders import made
from tests.symmetry.builders import seeded

TEN = torch.tensor([5.0, -1.0, 10.0, 3.0, -7.0, 2.0, 9.0, -4.0, 8.0, 6.0])


@pytest.mark.parametrize(
    ("density", "gamma", "sizes"),
    [
        (0.6, 0.1, [4, 5, 6, 7, 8, 9]),  # 1 largest and 3 smallest go
        (0.6, 0.0, [5, 6, 7, 8, 9, 10]),
        (0.6, 0.4, [1, 2, 3, 4, 5, 6]),
        (0.6, 0.9, [1, 2, 3, 4, 5, 6]),  # more than 4 cannot go
        (0.05, 0.1, []),  # less than one entry of ten
        (1.0, 0.5, list(range(1, 11))),
    ],
)
def test_the_largest_and_the_smallest_are_dropped(density: float, gamma: float, sizes: list[int]) -> None:
    kept = middle(TEN, density, gamma)
    assert sorted(kept[kept != 0].abs().tolist()) == sizes
    assert bool(((kept == 0) | (kept == TEN)).all())


@settings(max_examples=40)
@given(st.floats(0.01, 1.0), st.floats(0.0, 1.0), st.integers(1, 40))
def test_the_density_is_kept_whatever_gamma_is(density: float, gamma: float, size: int) -> None:
    vector = torch.randn(size, generator=seeded(size))
    count = size if density == 1 else int(density * size)
    assert int(middle(vector, density, gamma).count_nonzero()) == count


def test_the_middles_are_summed_and_with_signs_elected_only_those_that_agree() -> None:
    base, first = torch.zeros(10), TEN
    second = -TEN.flip(0)
    given = {"density": 0.6, "gamma": (0.1, 0.4)}
    kept = [middle(first, 0.6, 0.1), middle(second, 0.6, 0.4)]
    summed = made("breadcrumbs", 2, lambda_=0.5, **given)("w", [base, first, second])
    assert torch.equal(summed, (kept[0] + kept[1]) / 2)
    elected = made("breadcrumbs_ties", 2, **given)("w", [base, first, second])
    for i, (a, b) in enumerate(zip(*(k.tolist() for k in kept), strict=True)):
        positive = a + b >= 0
        assert float(elected[i]) == sum(x for x in (a, b) if (x > 0) == positive)
