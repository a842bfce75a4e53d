"""Sums of products against whole matrices in float64."""

from __future__ import annotations

import pytest
import torch

from deepalign_cli.combiners.low_rank import spectrum, summed
from tests.symmetry.builders import seeded

SIZES = [(9, 7, (2, 3)), (4, 30, (3, 3, 3)), (30, 4, (1,)), (5, 5, (8, 8))]  # more rank than room, too


@pytest.mark.parametrize(("outputs", "inputs", "ranks"), SIZES)
def test_the_sum_and_its_nearest_product(outputs: int, inputs: int, ranks: tuple[int, ...]) -> None:
    rng = seeded(0)
    factors = [(torch.randn(outputs, r, generator=rng), torch.randn(r, inputs, generator=rng)) for r in ranks]
    weights = [0.5, -2.0, 1.5][: len(ranks)]
    dense = sum(w * b.double() @ a.double() for w, (b, a) in zip(weights, factors, strict=True))
    assert isinstance(dense, torch.Tensor)
    whole, values = summed(factors, weights), torch.linalg.svdvals(dense)

    assert whole.norm == pytest.approx(float(dense.norm()))
    count = min(len(whole.values), len(values))
    assert torch.allclose(whole.values[:count], values[:count], atol=1e-12)
    for rank in (1, 2, 6, 40):
        b, a = whole.factors(rank)
        assert (b.shape, a.shape) == ((outputs, rank), (rank, inputs))
        least = float(values[rank:].norm())  # by Eckart and Young nothing of this rank is nearer
        assert float((b @ a - dense).norm()) == pytest.approx(least, abs=1e-11)
        assert whole.lost(rank) == pytest.approx(least, abs=1e-11)
        assert torch.allclose(b.norm(dim=0), a.norm(dim=1))


def test_signs_do_not_depend_on_those_of_the_factors() -> None:
    b, a = torch.randn(6, 2, generator=seeded(1)), torch.randn(2, 5, generator=seeded(2))
    one, other = (summed([(sign * b, sign * a)], [1.0]).factors(2) for sign in (1, -1))
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(one, other, strict=True))
    left = spectrum((b @ a).double()).factors(2)[0]
    assert torch.allclose(left, one[0], atol=1e-5)


def test_a_change_of_nothing() -> None:
    whole = summed([(torch.zeros(4, 1), torch.ones(1, 3))], [1.0])
    assert whole.norm == 0
    assert all(not part.any() for part in whole.factors(2))
