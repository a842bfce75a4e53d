from __future__ import annotations

import pytest
import torch

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.profile import profile_match
from deepalign_cli.aligners.starts import first_start, front_start, inward, planted_element
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.aligners.builders import planted
from tests.symmetry.builders import case, same_element


@pytest.mark.parametrize("name", ["mlp", "plain_cnn_bn", "vgg"])
def test_the_front_solves_a_planted_chain_in_one_sweep(name: str) -> None:
    symmetry, a, b, wanted = planted(name)
    assert same_element(front_start(Gains(symmetry, a, b), list(symmetry.sizes)).element, wanted)


def test_the_front_starts_closer_than_the_identity_in_any_order() -> None:
    symmetry, a, b, _ = planted("cifar_resnet", noise=0.3)
    problem, groups = Gains(symmetry, a, b), list(symmetry.sizes)
    for order in (groups, groups[::-1]):
        assert problem.objective(front_start(problem, order).element) > problem.objective(symmetry.identity())


def test_a_planted_element_is_told_from_none() -> None:
    symmetry, a, b, wanted = planted("cifar_resnet")
    found = planted_element(Gains(symmetry, a, b))
    assert found is not None
    assert same_element(found, wanted)
    assert planted_element(Gains(symmetry, a, case("cifar_resnet", seed=1)[1])) is None


def test_equal_networks_need_no_planted_element() -> None:
    symmetry, a, _, _ = planted("mlp")
    found = planted_element(Gains(symmetry, a, a))
    assert found is None or same_element(found, symmetry.identity())


@pytest.mark.parametrize("name", ["mlp", "plain_cnn_bn", "vgg"])
def test_noise_that_blurs_the_profiles_does_not_hide_a_planted_element(name: str) -> None:
    symmetry, a, b, wanted = planted(name, noise=0.25)
    problem = Gains(symmetry, a, b)
    assert min(profile_match(problem, g)[1] for g in symmetry.sizes) > 0.2
    found = planted_element(problem)
    assert found is not None
    assert all(torch.equal(found.perm[g], wanted.perm[g]) for g in symmetry.sizes)


def test_a_copy_with_more_noise_than_a_third_is_none() -> None:
    symmetry, a, b, _ = planted("mlp", noise=0.6)
    assert planted_element(Gains(symmetry, a, b)) is None


def test_the_front_goes_from_the_labelled_ends_inwards() -> None:
    spec = parse_spec(
        '[axes]\n"a.up" = "k stream"\n"a.down" = "stream k"\n"b.heads" = "h*4 stream"\n"words" = "9 stream"\n'
    )
    shapes = {"a.up": (6, 5), "a.down": (5, 6), "b.heads": (8, 5), "words": (9, 5)}
    weights = {name: torch.randn(shape) for name, shape in shapes.items()}
    problem = Gains(Symmetry(spec, shapes), weights, weights)
    assert next(iter(problem.symmetry.sizes)) == "k"
    assert inward(problem) == ["stream", "k", "h"]


@pytest.mark.parametrize("noise", [0.25, 2.0])
def test_what_the_front_has_settled_no_step_improves(noise: float) -> None:
    symmetry, a, b, _ = planted("plain_cnn_bn", noise=noise)
    problem = Gains(symmetry, a, b)
    start = first_start(problem)
    assert start.is_near == (noise < 1)
    assert start.settled
    for group in start.settled:
        assert problem.best_step(group, start.element).rise <= 1e-6 * problem.scale
