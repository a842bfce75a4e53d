from __future__ import annotations

import pytest
import torch

from deepalign_cli.combiners.dare import dropped
from tests.combiners.builders import drawn, made
from tests.symmetry.builders import seeded


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_as_many_stay_as_asked_for_and_the_size_does(density: float) -> None:
    vector = torch.randn(400, 250, generator=seeded(0))
    kept = dropped(vector, density, seeded(1))
    stays = kept != 0
    assert float(stays.float().mean()) == pytest.approx(density, abs=5e-3)
    assert float(kept.abs().sum()) == pytest.approx(float(vector.abs().sum()), rel=1e-5)
    factors = kept[stays] / vector[stays]
    assert torch.allclose(factors, factors[0])
    assert float(factors[0]) == pytest.approx(1 / density, rel=0.05)


def test_the_mean_over_seeds_is_the_task_vector() -> None:
    base, network = drawn(2, torch.float64)
    merged = [made("dare_linear", 1, seed=seed, density=0.5)("w", [base, network]) for seed in range(200)]
    error = (torch.stack(merged).mean(0) - network).norm() / (network - base).norm()
    assert float(error) == pytest.approx(200**-0.5, rel=0.1)  # sqrt((1 - p) / p / seeds)


def test_signs_are_elected_after_dropping_and_weights_are_not_divided_out() -> None:
    base = torch.zeros(64, 32)
    first, second = torch.full_like(base, 2.0), torch.full_like(base, -1.0)
    linear, elected = (
        made(n, 2, density=0.5)("w", [base, first, second]) for n in ("dare_linear", "dare_ties")
    )
    both = (linear != 0) & (linear != elected)
    assert float(both.float().mean()) == pytest.approx(0.25, abs=0.04)
    assert bool((elected[both] > linear[both]).all())  # the negative one is left out
    assert torch.equal(elected[~both], linear[~both])
