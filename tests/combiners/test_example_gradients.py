"""Gradients of many examples at once against those of one after the other."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.combiners import example_gradients
from deepalign_cli.combiners.example_gradients import SquaredGradients
from tests.symmetry.builders import seeded


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5)]
    return nn.Sequential(*layers).eval()


NET = net()


def objective(leaves: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    out: Tensor = torch.func.functional_call(NET, dict(leaves), x)
    return (out * y).sum()


def looks_at_the_batch(leaves: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    return objective(leaves, x, y) if bool(x.sum() > -1e9) else y.sum()  # no `if` under vmap


def something_else(leaves: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    try:
        return looks_at_the_batch(leaves, x, y)
    except RuntimeError:  # under vmap
        return objective(leaves, x, 2 * y)


def by_hand(inputs: Tensor, drawn: Tensor) -> dict[str, Tensor]:
    leaves = {name: w.detach().requires_grad_() for name, w in NET.named_parameters()}
    sums = {name: torch.zeros_like(w) for name, w in leaves.items()}
    for x, y in zip(inputs.split(1), drawn.split(1), strict=True):
        gradients = torch.autograd.grad(objective(leaves, x, y), [*leaves.values()])
        for name, g in zip(leaves, gradients, strict=True):
            sums[name] += g.square()
    return sums


@pytest.mark.parametrize(
    ("function", "at_once"), [(objective, True), (looks_at_the_batch, False), (something_else, False)]
)
def test_they_are_the_same_however_the_network_can_be_run(function: object, at_once: bool) -> None:
    x, y = torch.randn(7, 1, 4, 4, generator=seeded(0)), torch.randn(7, 5, generator=seeded(1))
    squares = SquaredGradients(function, dict(NET.named_parameters()))  # type: ignore[arg-type]
    for count in (5, 2):
        found = squares(x[:count], y[:count])
        expected = by_hand(x[:count], y[:count])
        assert found.keys() == expected.keys()
        for name, total in expected.items():
            assert torch.allclose(found[name], total, rtol=1e-4, atol=1e-6), name
    assert (squares.at_a_time > 1) is at_once


def test_large_networks_are_differentiated_example_by_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(example_gradients, "_AT_A_TIME", 500)
    assert SquaredGradients(objective, {"w": torch.zeros(20)}).at_a_time == 25
    assert SquaredGradients(objective, {"w": torch.zeros(100)}).at_a_time == 1


def test_a_weight_that_is_not_used_has_none() -> None:
    x, y = torch.randn(3, 1, 4, 4, generator=seeded(0)), torch.randn(3, 5, generator=seeded(1))
    leaves = {**dict(NET.named_parameters()), "unused": torch.ones(2)}

    def some(leaves: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return objective({n: w for n, w in leaves.items() if n != "unused"}, x, y)

    for count in (1, 3):
        assert not SquaredGradients(some, leaves)(x[:count], y[:count])["unused"].any()
