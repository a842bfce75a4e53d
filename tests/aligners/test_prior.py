"""Weight matching with a prior: the prediction decides where it is clear, the weights where it is not."""

from __future__ import annotations

import torch

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.prior import descend_with_prior, with_signs
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation
from tests.aligners.builders import planted, trained
from tests.symmetry.builders import same_element, seeded


def test_without_a_share_it_is_weight_matching() -> None:
    symmetry, a, b = trained()
    problem = Gains(symmetry, a, b)
    zero = {g: torch.randn(n, n, generator=seeded(1)) for g, n in symmetry.sizes.items()}
    found = descend_with_prior(problem, zero, symmetry.identity(), list(symmetry.sizes), share=0.0)
    assert problem.objective(found) > problem.objective(symmetry.identity())
    for group in symmetry.sizes:
        assert problem.best_step(group, found).rise <= 1e-5 * problem.scale


def test_a_strong_prior_is_kept() -> None:
    symmetry, a, b = trained()
    wanted = symmetry.random(seeded(2))
    sure = {g: torch.eye(n)[:, torch.argsort(wanted.perm[g])] for g, n in symmetry.sizes.items()}
    found = descend_with_prior(Gains(symmetry, a, b), sure, wanted, list(symmetry.sizes), share=1e4)
    assert same_element(found, wanted)


def test_a_prior_that_knows_half_the_units_is_completed_by_the_weights() -> None:
    symmetry, a, b, back = planted("named_mlp")
    known = {}
    for g, n in symmetry.sizes.items():
        similar = torch.eye(n)[:, torch.argsort(back.perm[g])]
        similar[n // 2 :] = 0
        known[g] = similar
    found = descend_with_prior(Gains(symmetry, a, b), known, symmetry.identity(), list(symmetry.sizes))
    assert same_element(found, Element(back.perm))


def test_signs_follow_the_gains() -> None:
    symmetry, a, b, back = planted("tanh_mlp", Activation.TANH)
    found = with_signs(Gains(symmetry, a, b), Element(back.perm))
    assert same_element(found, back)


def test_signs_of_permutation_groups_are_left_alone() -> None:
    symmetry, a, b = trained()
    start = symmetry.identity()
    assert with_signs(Gains(symmetry, a, b), start) is start


def test_a_prior_that_knows_the_signs_turns_units() -> None:
    symmetry, a, b, back = planted("tanh_mlp", Activation.TANH)
    problem = Gains(symmetry, a, b)
    zero = {g: torch.zeros(n, n) for g, n in symmetry.sizes.items()}
    wanted = symmetry.random(seeded(2))
    signed = {}
    for g, n in symmetry.sizes.items():
        signed[g] = torch.eye(n)[:, torch.argsort(wanted.perm[g])] * wanted.scale[g].float()[:, None]
    for start in (symmetry.identity(), back, wanted):
        order = list(symmetry.sizes)
        found = descend_with_prior(problem, zero, start, order, share=1e4, flipping=signed)
        assert all(torch.equal(found.perm[g], wanted.perm[g]) for g in order)
        assert all(torch.equal(found.scale[g], wanted.scale[g]) for g in order)


def test_gains_and_a_prior_that_agree_give_what_both_say() -> None:
    symmetry, a, b, back = planted("tanh_mlp", Activation.TANH, noise=0.1)
    plain = {g: torch.zeros(n, n) for g, n in symmetry.sizes.items()}
    signed = {
        g: torch.eye(n)[:, torch.argsort(back.perm[g])] * back.scale[g].float()[:, None]
        for g, n in symmetry.sizes.items()
    }
    found = descend_with_prior(
        Gains(symmetry, a, b), plain, symmetry.identity(), list(symmetry.sizes), 1.0, signed
    )
    assert same_element(found, back)
