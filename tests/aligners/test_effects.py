"""Correlations of the effects of units on the outputs, against their definition and planted elements."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.aligners.activations import alone
from deepalign_cli.aligners.correlations import Correlations
from deepalign_cli.aligners.effects import effects, with_effects
from deepalign_cli.aligners.steps import Matrices
from deepalign_cli.models.module import run_module
from deepalign_cli.models.on_device import on_device
from deepalign_cli.models.run import Run
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Weights
from tests import nets
from tests.aligners.builders import mlp_run, planted, trained
from tests.pretended import AWAY, pretended
from tests.symmetry.builders import seeded, shapes_of


def _run(name: str, weights: Weights) -> Run:
    return run_module(nets.ALL[name]()[0].eval(), shapes_of(dict(weights)))


def _inputs(name: str, count: int = 24) -> Tensor:
    return torch.randn(count, *nets.ALL[name]()[1], generator=seeded(3), dtype=torch.float64)


def test_they_are_those_of_the_gradients_of_random_directions() -> None:
    symmetry, a, b = trained()
    x = torch.randn(40, 12, generator=seeded(4))
    found = effects(symmetry, mlp_run, a, b, lambda: [x])

    rng = seeded(0)
    drawn = [torch.randn(40, 5, generator=rng) for _ in range(12)]
    directions = torch.cat([r - r.mean(1, keepdim=True) for r in drawn])
    sides = []
    for w in (a, b):
        gates = [(x @ w["0.weight"].T + w["0.bias"] > 0).repeat(12, 1)]
        hidden = (x @ w["0.weight"].T + w["0.bias"]).relu()
        gates.append((hidden @ w["2.weight"].T + w["2.bias"] > 0).repeat(12, 1))
        second = directions @ w["4.weight"] * gates[1]
        sides.append([second @ w["2.weight"] * gates[0], second])
    for group, own, other in zip(symmetry.sizes, *sides, strict=True):
        both = torch.corrcoef(torch.cat([own, other], 1).double().T)[: own.shape[1], own.shape[1] :]
        alive = own.std(0).gt(0)[:, None] & other.std(0).gt(0)
        assert alive.any()
        assert torch.allclose(found.groups[group].plain, torch.where(alive, both, 0.0), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "activation"),
    [("named_mlp", None), ("tanh_mlp", Activation.TANH), ("plain_cnn_bn", None), ("resnet_basic", None)],
)
def test_a_planted_element_is_found(name: str, activation: Activation | None) -> None:
    symmetry, a, b, inverse = planted(name, activation, double=True)
    x = _inputs(name)
    found = effects(symmetry, _run(name, a), a, b, lambda: x.split(8))

    assert set(found.groups) == set(symmetry.sizes)
    assert (found.samples, found.unread) == (24, ())
    element = alone(symmetry, found)
    for group, perm in inverse.perm.items():
        both = found.groups[group]
        value = both.plain if both.flipping is None else both.plain.abs() + both.flipping.abs()
        alive = value.amax(1) > 0.5  # not a unit that never acts
        assert alive.sum() > len(perm) / 2
        assert torch.equal(element.perm[group][alive], perm[alive])
        if group in symmetry.turning:
            assert torch.equal(element.scale[group].sign()[alive], inverse.scale[group].sign()[alive])


def test_activations_in_place_change_nothing_and_neither_does_a_device() -> None:
    symmetry, a, b = trained()
    plain, in_place = (
        run_module(nn.Sequential(nn.Linear(12, 24), nn.ReLU(inplace), nn.Linear(24, 24), nn.ReLU(inplace),
                                 nn.Linear(24, 5)), shapes_of(a))
        for inplace in (False, True)
    )  # fmt: skip
    x = torch.randn(30, 12, generator=seeded(1))
    expected = effects(symmetry, plain, a, b, lambda: [x])
    changed = effects(symmetry, in_place, a, b, lambda: [x])
    with pretended() as device:
        away = effects(symmetry, on_device(plain, AWAY), a, b, lambda: [x])

    assert device.ran["linear"]
    for group, matrices in expected.groups.items():
        assert torch.equal(changed.groups[group].plain, matrices.plain)
        assert torch.equal(away.groups[group].plain, matrices.plain)


def test_where_there_are_no_gradients_activations_count_alone() -> None:
    symmetry, a, b = trained()

    def classes(weights: Weights, x: Tensor) -> Tensor:
        return mlp_run(weights, x).argmax(1)

    found = effects(symmetry, classes, a, b, lambda: [torch.randn(6, 12)])
    assert found.groups == {}
    group, n = next(iter(symmetry.sizes.items()))
    responding = Correlations({group: Matrices(torch.randn(n, n).double(), None, Element({}))}, 6, ("other",))
    mixed = with_effects(responding, found)
    plain = responding.groups[group].plain
    torch.testing.assert_close(mixed.groups[group].plain, plain / plain.std(correction=0))
    assert mixed.unread == ("other",)


def test_both_count_by_their_own_deviations_and_flipping_parts_stay_apart() -> None:
    first, second, turning = (torch.randn(3, 3, generator=seeded(i)).double() for i in range(3))
    g = Element({})
    responding = Correlations({"a": Matrices(first, turning, g), "b": Matrices(first, None, g)}, 5, ("c",))
    acting = Correlations({"a": Matrices(second, None, g), "c": Matrices(second, turning, g)}, 5, ("b",))
    mixed = with_effects(responding, acting)

    std = (first + turning.abs()).std(correction=0)
    torch.testing.assert_close(mixed.groups["a"].plain, first / std + second / second.std(correction=0))
    torch.testing.assert_close(mixed.groups["a"].flipping, turning / std)
    assert mixed.groups["b"].flipping is None
    assert list(mixed.groups) == ["a", "b", "c"]
    assert (mixed.samples, mixed.unread) == (5, ())
