"""Activation matching: the correlations, the match, and what it says of groups and data."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.activations import ActivationMatching
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.models.run import Run
from deepalign_cli.symmetry.spec import Activation, Spec, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from tests.aligners.builders import planted, runner, trained
from tests.symmetry.builders import same_element, seeded

PLANTED = ["mlp_batchnorm", "plain_cnn_bn", "vgg", "resnet_basic", "preact_resnet", "transformer_postnorm"]


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_permutation_is_undone(name: str) -> None:
    symmetry, a, b, back = planted(name)
    run, shape = runner(name)
    x = torch.randn(48, *shape, generator=seeded(3))
    found = ActivationMatching(Evidence(run, lambda: x.split(20)))(symmetry, a, b, rng=seeded(0))
    assert same_element(found.element, back)
    assert found.distance_after == 0
    assert found.details == {"samples": 48, "unread": []}
    assert found.method == "activations"


@pytest.mark.parametrize(
    ("name", "activation"), [("tanh_mlp", "tanh"), ("siren", "sin"), ("named_mlp", "relu")]
)
def test_planted_signs_and_scales_are_undone(name: str, activation: str) -> None:
    symmetry, a, b, back = planted(name, Activation(activation), double=True)
    run, shape = runner(name)
    x = torch.randn(64, *shape, generator=seeded(3))
    found = ActivationMatching(Evidence(run, lambda: [x]))(symmetry, a, b, rng=seeded(0))
    assert same_element(found.element, back, rtol=1e-6)
    assert found.distance_after < 1e-5 * found.distance_before


@pytest.mark.slow
def test_the_objective_is_the_sum_of_matched_correlations_and_the_best_there_is() -> None:
    symmetry, a, b = trained("tanh")
    symmetry = Symmetry(symmetry.spec.with_activation(Activation.TANH), symmetry.shapes)
    x = torch.randn(200, 12, generator=seeded(3))

    def run(weights: Weights, x: Tensor) -> Tensor:
        for i in (0, 2):
            x = torch.nn.functional.linear(x, weights[f"{i}.weight"], weights[f"{i}.bias"]).tanh()
        return torch.nn.functional.linear(x, weights["4.weight"], weights["4.bias"])

    method = ActivationMatching(Evidence(run, lambda: [x]))
    found = method(symmetry, a, b, rng=seeded(0))
    groups = method.evidence.correlations(symmetry, a, b).groups
    expected = 0.0
    for group, matrices in groups.items():
        units = torch.arange(symmetry.sizes[group])
        flipping = matrices.flipping
        assert flipping is not None
        matched = flipping[units, found.element.perm[group]] * found.element.scale[group]
        assert (matched >= 0).all()
        expected += float(matched.sum())
        other = torch.randperm(len(units), generator=seeded(1))
        assert matched.sum() > flipping[units, other].abs().sum()
    assert found.objective[0] == pytest.approx(expected)


def test_half_precision_is_read_in_float32() -> None:
    symmetry, a, b, back = planted("mlp_batchnorm")
    run, shape = runner("mlp_batchnorm")
    x = torch.randn(48, *shape, generator=seeded(3))
    narrow = [{n: w.bfloat16() if w.is_floating_point() else w for n, w in side.items()} for side in (a, b)]
    found = ActivationMatching(Evidence(run, lambda: [x]))(symmetry, *narrow, rng=seeded(0))
    assert same_element(found.element, back)


def test_a_group_that_nothing_reads_is_matched_by_its_weights_and_named() -> None:
    text = '[axes]\n"a.weight" = "h 3"\n"b.weight" = "2 h"\n"c.weight" = "k 3"\n"d.weight" = "2 k"'
    shapes = {"a.weight": (8, 3), "b.weight": (2, 8), "c.weight": (6, 3), "d.weight": (2, 6)}
    symmetry = Symmetry(parse_spec(text), shapes)
    a = {n: torch.randn(s, generator=seeded(i)) for i, (n, s) in enumerate(shapes.items())}
    g = symmetry.random(seeded(9))
    linear = torch.nn.functional.linear

    def run(w: Weights, x: Tensor) -> Tensor:
        return (
            linear(linear(x, w["a.weight"]).relu(), w["b.weight"]) + (x @ w["c.weight"].T) @ w["d.weight"].T
        )

    x = torch.randn(40, 3, generator=seeded(3))
    found = ActivationMatching(Evidence(run, lambda: [x]))(symmetry, a, symmetry.apply(g, a), rng=seeded(0))
    assert found.details["unread"] == ["k"]
    assert same_element(found.element, g.inverse())


def test_a_network_without_groups_stays_as_it_is() -> None:
    symmetry = Symmetry(Spec({}), {"weight": (3, 4)})
    w = {"weight": torch.randn(3, 4)}
    run: Run = lambda w, x: torch.nn.functional.linear(x, w["weight"])  # noqa: E731
    found = ActivationMatching(Evidence(run, lambda: [torch.randn(5, 4)]))(symmetry, w, w, rng=seeded(0))
    assert found.element.perm == {}


@pytest.mark.parametrize("swapped", [False, True])
def test_units_that_are_dead_in_one_network_are_told_apart_by_their_weights(swapped: bool) -> None:
    shapes = {"a.weight": (8, 4), "a.bias": (8,), "b.weight": (2, 8)}
    symmetry = Symmetry(parse_spec('[axes]\n"a.weight" = "h 4"\n"a.bias" = "h"\n"b.weight" = "2 h"'), shapes)
    a = {n: torch.randn(s, generator=seeded(i)) for i, (n, s) in enumerate(shapes.items())}
    g = symmetry.random(seeded(9))
    b = {n: w.clone() for n, w in symmetry.apply(g, a).items()}
    b["a.bias"][:3] -= 100
    linear = torch.nn.functional.linear

    def run(w: Weights, x: Tensor) -> Tensor:
        return linear(linear(x, w["a.weight"], w["a.bias"]).relu(), w["b.weight"])

    x = torch.randn(50, 4, generator=seeded(3))
    pair, expected = ((b, a), g) if swapped else ((a, b), g.inverse())
    found = ActivationMatching(Evidence(run, lambda: [x]))(symmetry, *pair, rng=seeded(0))
    assert same_element(found.element, expected)
