"""The best move of heads: no other permutation and no other rotations gain as much."""

from __future__ import annotations

import itertools

import pytest
import torch

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.head_steps import best_heads, block_gains
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.turns import Turn
from tests.aligners.turning_pairs import SYMMETRY, drawn, turned_pair
from tests.symmetry.builders import seeded

INNER = ["qk", "vo"]


def gains(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> Gains:
    """The problem in networks whose gains are taken in."""
    return Gains(SYMMETRY, *(Acted(SYMMETRY, SYMMETRY.without_gains(w), w) for w in (a, b)))


def test_the_rise_is_that_of_the_objective() -> None:
    problem, g = gains(drawn(0), drawn(1)), SYMMETRY.random(seeded(2))
    step, rise = best_heads(problem, "heads", INNER, g)
    before = problem.objective(g)
    assert problem.objective(step @ g) - before == pytest.approx(rise, rel=1e-9)
    assert rise > 0


def test_no_other_move_of_heads_gains_more() -> None:
    problem, g = gains(drawn(0), drawn(1)), SYMMETRY.random(seeded(2))
    step, _ = best_heads(problem, "heads", INNER, g)
    best, rng = problem.objective(step @ g), seeded(3)
    blocks = {group: block_gains(problem, "heads", group, g) for group in INNER}
    for perm in map(torch.tensor, itertools.permutations(range(3))):
        exact = {
            group: Turn(SYMMETRY.kinds[group].nearest(c[torch.arange(3), perm]), "heads")
            for group, c in blocks.items()
        }
        random = {group: SYMMETRY.random(rng).turn[group] for group in INNER}
        for turn in (exact, random):
            assert problem.objective(Element({"heads": perm}, turn=turn) @ g) <= best + 1e-9


def test_a_planted_move_is_found_and_after_it_nothing_is_gained() -> None:
    a, _, _ = turned_pair()
    g = SYMMETRY.only(SYMMETRY.random(seeded(4)), ["heads", *INNER])
    bare = SYMMETRY.apply(SYMMETRY.without_gains(a), a)
    problem = Gains(SYMMETRY, bare, SYMMETRY.apply(g, bare))
    step, _ = best_heads(problem, "heads", INNER, SYMMETRY.identity())
    assert torch.equal(step.perm["heads"], g.inverse().perm["heads"])
    for group in INNER:
        assert torch.allclose(step.turn[group].matrix, g.inverse().turn[group].matrix, atol=1e-7)
    assert best_heads(problem, "heads", INNER, step)[1] == pytest.approx(0.0, abs=1e-9)


def test_only_the_tensors_that_are_named_count() -> None:
    a, b = drawn(0), drawn(1)
    g, names = SYMMETRY.identity(), {"o"}
    step, rise = best_heads(gains(a, b), "heads", INNER, g, names)
    other = {**b, "gate": 5 * b["gate"], "qkv": 7 * b["qkv"]}
    assert torch.equal(
        best_heads(gains(a, other), "heads", INNER, g, names)[0].perm["heads"], step.perm["heads"]
    )
    assert rise > 0
    assert best_heads(gains(a, b), "heads", INNER, g, set())[1] == 0.0
