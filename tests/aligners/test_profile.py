from __future__ import annotations

import pytest
import torch

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.profile import profile_element, profile_match, profiles, profiles_match
from deepalign_cli.symmetry.spec import Activation, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.aligners.builders import planted
from tests.symmetry.builders import CASES, same_element, seeded


@pytest.mark.parametrize("name", CASES)
def test_profiles_move_with_their_units_and_nothing_else(name: str) -> None:
    symmetry, a, b, wanted = planted(name, Activation.TANH)
    problem = Gains(symmetry, a, b)
    for group in symmetry.sizes:
        own, other = (profiles(problem, group, reference=side) for side in (True, False))
        assert torch.allclose(own, other[wanted.perm[group]], rtol=1e-5)
        assert not torch.allclose(own, other, rtol=1e-2)


@pytest.mark.parametrize("name", CASES)
def test_a_planted_permutation_is_read_off_at_once(name: str) -> None:
    symmetry, a, b, wanted = planted(name)
    assert same_element(profile_element(Gains(symmetry, a, b)), wanted)


@pytest.mark.parametrize("name", ["plain_cnn", "transformer_prenorm"])
def test_signs_follow_and_do_not_spoil_the_gains_that_are_kept(name: str) -> None:
    symmetry, a, b, wanted = planted(name, Activation.TANH)
    problem = Gains(symmetry, a, b)
    found = profile_element(problem)
    assert same_element(found, wanted)
    assert all(not problem.best_step(group, found).rise > 1e-3 for group in symmetry.sizes)


def test_a_group_that_does_not_count_has_equal_profiles() -> None:
    symmetry = Symmetry(parse_spec('[axes]\n"bn.running_mean" = "k"'), {"bn.running_mean": (3,)})
    w = {"bn.running_mean": torch.randn(3, generator=seeded(0))}
    problem = Gains(symmetry, w, w)
    assert profiles(problem, "k", reference=True).tolist() == [[0.0]] * 3
    assert sorted(profile_element(problem).perm["k"].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("name", ["plain_cnn", "mlp"])
def test_whether_profiles_match_is_said_as_by_the_assignment(name: str) -> None:
    symmetry, a, b, _ = planted(name)
    unrelated = {n: torch.randn(w.shape, generator=seeded(5), dtype=w.dtype) for n, w in b.items()}
    for other in (b, unrelated):
        problem = Gains(symmetry, a, other)
        for group in symmetry.sizes:
            ratio = profile_match(problem, group)[1]
            for most in (0.0, 0.2, ratio * 0.99, ratio * 1.01 + 1e-9, 2.0):
                assert profiles_match(problem, group, most) == (ratio <= most)
