"""One step for BatchNorm's output and the distance of its statistics: PyTorch's own, piece by piece."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.dreams.norm_apart import norm_apart

EPS = 1e-3


def plainly(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, remembered: Tensor, deviation: Tensor
) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(x, [d for d in range(x.ndim) if d != 1], correction=0)
    level, spread = (mean - remembered) / deviation, (var + EPS).sqrt() / deviation - 1
    y = functional.batch_norm(x, None, None, weight, bias, True, 0.0, EPS)
    return y, level.square().mean() + spread.square().mean()


@pytest.mark.parametrize("shape", [(7, 5), (3, 5, 4), (2, 5, 4, 3), (2, 5, 2, 3, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_outputs_and_gradients_are_those_of_the_pieces(shape: tuple[int, ...], affine: bool) -> None:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=rng, dtype=torch.float64) + 0.3
    weight, bias, remembered, deviation, of_y = (
        torch.rand(size, generator=rng, dtype=torch.float64) + 0.5 for size in (5, 5, 5, 5, shape)
    )
    norm = (weight, bias) if affine else (None, None)

    found = []
    for run in (plainly, lambda *args: norm_apart(*args, EPS)):
        own = x.clone().requires_grad_()
        y, apart = run(own, *norm, remembered, deviation)
        torch.autograd.backward((of_y * y).sum() + 3 * apart)
        assert own.grad is not None
        found.append((y.detach(), apart.detach(), own.grad))

    assert all(torch.allclose(*both, rtol=1e-10, atol=1e-12) for both in zip(*found, strict=True))


@pytest.mark.parametrize("affine", [True, False])
def test_statistics_of_half_precision_are_in_full(affine: bool) -> None:
    rng = torch.Generator().manual_seed(2)
    x = (torch.randn(64, 5, 6, 6, generator=rng) + 3).bfloat16()
    weight, bias, remembered, deviation = (torch.rand(5, generator=rng) + 0.5 for _ in range(4))
    norm = (weight, bias) if affine else (None, None)
    own = x.clone().requires_grad_()

    y, apart = norm_apart(own, *norm, remembered, deviation, EPS)
    torch.autograd.backward(y.float().square().sum() + 3 * apart)

    expected, expected_apart = plainly(x.float(), *norm, remembered, deviation)
    assert torch.allclose(y.float(), expected, rtol=0.01, atol=0.02)
    assert float(apart.detach()) == pytest.approx(float(expected_apart), rel=1e-4)
    assert own.grad is not None
    assert own.grad.dtype is torch.bfloat16
