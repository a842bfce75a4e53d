from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from deepalign_cli.assignment import assign, auction_prices
from tests.symmetry.builders import seeded

SIZES = [1, 2, 255, 256, 300]


def gain(kind: str, n: int) -> Tensor:
    draw = torch.randn(n, n, generator=seeded(n), dtype=torch.float64)
    return {
        "random": draw,
        "ties": (2 * draw).round(),
        "constant": torch.full_like(draw, 3.5),
        "zero": torch.zeros_like(draw),
        "rank one": draw[:, :1] * draw[:1],
        "dead rows": torch.where(torch.arange(n)[:, None] % 3 == 0, 0.0, draw),
        "dead columns": torch.where(torch.arange(n) % 3 == 0, 0.0, draw),
        "huge": 1e30 * draw,
        "tiny": 1e-30 * draw,
        "planted": draw @ draw.T,
    }[kind]


KINDS = [
    "random",
    "ties",
    "constant",
    "zero",
    "rank one",
    "dead rows",
    "dead columns",
    "huge",
    "tiny",
    "planted",
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", SIZES)
def test_the_value_is_scipys_optimum(n: int, kind: str, dtype: torch.dtype) -> None:
    matrix = gain(kind, n).to(dtype)
    exact = matrix.double().numpy()
    perm = assign(matrix)
    assert sorted(perm.tolist()) == list(range(n))
    assert perm.dtype == torch.int64
    rows, columns = linear_sum_assignment(exact, maximize=True)
    best = exact[rows, columns].sum()
    # Prices are subtracted in float64: what is lost is rounding of the gain's own size.
    assert exact[rows, perm.numpy()].sum() == pytest.approx(
        best, rel=1e-12, abs=1e-12 * np.abs(exact).max() * n
    )


@pytest.mark.parametrize("n", [2, 300])
def test_ties_are_broken_the_same_way_every_time(n: int) -> None:
    for kind in ("ties", "constant"):
        assert torch.equal(assign(gain(kind, n)), assign(gain(kind, n).clone()))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("n", [2, 300])
def test_what_is_not_finite_is_refused(n: int, value: float) -> None:
    matrix = gain("random", n)
    matrix[1, 0] = value
    with pytest.raises(ValueError, match="NaN or Inf"):
        assign(matrix)


def test_the_gain_is_left_alone_and_may_have_a_gradient() -> None:
    matrix = gain("random", 300)
    kept = matrix.clone()
    assert torch.equal(assign(matrix.requires_grad_()), assign(kept.T.contiguous().T))
    assert torch.equal(matrix, kept)


def test_prices_leave_most_rows_with_a_favourite_of_their_own() -> None:
    matrix = gain("random", 300).numpy()
    prices = auction_prices(matrix)
    perm = assign(torch.from_numpy(matrix)).numpy()

    def pleased(value: np.ndarray) -> float:  # the share of rows whose column is nearly their favourite
        slack = value.max(axis=1) - value[np.arange(len(value)), perm]
        return float((slack <= 0.051 * matrix.std()).mean())

    assert pleased(matrix) < 0.7
    assert pleased(matrix - prices) > 0.9
