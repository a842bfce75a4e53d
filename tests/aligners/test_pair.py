"""Matches are found between canonical scales and carried back."""

from __future__ import annotations

import torch

from deepalign_cli.aligners.alignment import distance
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation
from tests.aligners.builders import planted, trained
from tests.symmetry.builders import same_element


def test_planted_scales_are_found_from_the_permutation_alone() -> None:
    symmetry, a, b, back = planted("named_mlp", Activation.RELU, double=True)
    element, apart = Pair(symmetry, a, b).closest(Element(back.perm))
    assert same_element(element, back, rtol=1e-6)
    assert apart < 1e-6 * distance(symmetry, a, b)


def test_without_scales_a_match_is_kept_as_it_is() -> None:
    symmetry, a, b = trained()
    element, apart = Pair(symmetry, a, b).closest(symmetry.identity())
    assert same_element(element, symmetry.identity())
    assert apart == distance(symmetry, a, b)


def test_the_closer_of_two_is_kept() -> None:
    symmetry, a, _, back = planted("named_mlp", Activation.RELU)
    b = symmetry.apply(Element(back.perm).inverse(), a)
    b["fc2.weight"] = b["fc2.weight"] * torch.linspace(0.5, 2, b["fc2.weight"].shape[1])
    pair = Pair(symmetry, a, b)
    element, apart = pair.closest(Element(back.perm))
    assert apart <= distance(symmetry, a, b, Element(back.perm))
    assert abs(apart - distance(symmetry, a, b, element)) < 1e-4
