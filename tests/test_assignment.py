from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from deepalign_cli import assignment
from deepalign_cli.assignment import assign, auction_prices, log_sinkhorn
from deepalign_cli.errors import NonFiniteError
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
    with pytest.raises(NonFiniteError, match="NaN or Inf"):
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


def logits(n: int, batch: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(*batch, n, n, generator=seeded(n), dtype=dtype)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize("n", [1, 2, 17])
def test_rows_and_columns_sum_to_one_in_the_end(n: int, batch: tuple[int, ...]) -> None:
    made = log_sinkhorn(logits(n, batch), iterations=2000).exp()
    assert made.shape == (*batch, n, n)
    ones = torch.ones(*batch, n, dtype=torch.float64)
    assert torch.allclose(made.sum(-1), ones, atol=1e-6)
    assert torch.allclose(made.sum(-2), ones, atol=1e-6)


def test_a_doubly_stochastic_matrix_stays_as_it_is() -> None:
    balanced = log_sinkhorn(logits(9), iterations=2000)
    assert torch.allclose(log_sinkhorn(balanced, iterations=2000), balanced, atol=1e-6)


def test_what_is_added_to_rows_and_columns_is_scaled_away() -> None:
    plain = logits(9)
    rows, columns = torch.randn(2, 9, generator=seeded(1), dtype=torch.float64)
    shifted = plain + rows[:, None] + columns
    assert torch.allclose(log_sinkhorn(shifted, 2000), log_sinkhorn(plain, 2000), atol=1e-6)


@pytest.mark.parametrize("iterations", [0, 1, 2, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transposed_logits_give_the_transposed_matrix(iterations: int, dtype: torch.dtype) -> None:
    matrix = logits(17, (3,), dtype)
    made, turned = log_sinkhorn(matrix, iterations), log_sinkhorn(matrix.mT, iterations)
    # To rounding: a library sums the rows of a matrix and of its transpose in different orders.
    assert torch.allclose(turned, made.mT, rtol=0, atol=64 * torch.finfo(dtype).eps)


def test_permuting_the_logits_permutes_the_matrix() -> None:
    matrix, rows, columns = logits(11), *(torch.randperm(11, generator=seeded(i)) for i in (1, 2))
    made = log_sinkhorn(matrix[rows][:, columns])
    assert torch.allclose(made, log_sinkhorn(matrix)[rows][:, columns], atol=1e-12)


@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorns_gradient_is_right(iterations: int) -> None:
    matrix = logits(4, (2,)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: log_sinkhorn(x, iterations), (matrix,))


@pytest.mark.parametrize("span", [1.0, 40.0, 80.0])
def test_float32_bears_logits_that_span_eighty(span: float) -> None:
    draw = torch.rand(40, 40, generator=seeded(3))
    draw[0, 0], draw[0, 1] = 0.0, 1.0
    matrix = (span * draw).requires_grad_()
    made = log_sinkhorn(matrix)
    (gradient,) = torch.autograd.grad(made.exp().square().sum(), [matrix])
    assert made.isfinite().all()
    assert gradient.isfinite().all()
    exact = log_sinkhorn(matrix.detach().double())
    assert torch.allclose(made.detach().double().exp(), exact.exp(), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sharp_logits_give_nearly_the_assigned_permutation(dtype: torch.dtype) -> None:
    planted = torch.randperm(12, generator=seeded(1))
    gains = torch.eye(12, dtype=dtype)[planted] + 0.3 * torch.rand(12, 12, generator=seeded(2)).to(dtype)
    assert torch.equal(assign(gains), planted)
    soft = log_sinkhorn(40 * gains).exp()
    assert torch.allclose(soft, torch.eye(12, dtype=dtype)[planted], atol=1e-3)


def test_rows_that_all_like_another_column_best_need_no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = torch.randperm(40, generator=seeded(1))
    gains = torch.rand(40, 40, generator=seeded(2)) + torch.eye(40)[expected]
    monkeypatch.setattr(assignment, "_solver", None)
    assert torch.equal(assign(gains), expected)
    with pytest.raises(TypeError):
        assign(gains[:, :1].expand(40, 40))
