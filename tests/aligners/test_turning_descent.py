"""Descent in which groups turn: planted elements are found, the objective never falls."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.turning_descent import blocks_of, descend_turning
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.turns import Turn
from tests.aligners.builders import jittered
from tests.aligners.test_head_steps import gains
from tests.aligners.turning_pairs import SYMMETRY, drawn, turned_pair
from tests.symmetry.builders import seeded


def test_streams_come_first_and_heads_with_what_is_in_them() -> None:
    assert blocks_of(SYMMETRY) == [["s"], ["heads", "qk", "vo"], ["h"]]


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_planted_element_is_found(noise: float) -> None:
    a, b, wanted = turned_pair(noise)
    g, objective = descend_turning(gains(a, b), {})
    for group in ("heads", "h"):
        assert torch.equal(g.perm[group], wanted.perm[group])
    for group in ("s", "qk", "vo"):
        assert float((g.turn[group].matrix - wanted.turn[group].matrix).abs().max()) < 1e-5 + 5 * noise
    assert all(later >= earlier for earlier, later in pairwise(objective))


@pytest.mark.parametrize("seed", range(3))
def test_the_objective_is_told_as_it_is_and_rises(seed: int) -> None:
    problem = gains(drawn(seed), drawn(seed + 10))
    g, objective = descend_turning(problem, {})
    assert all(later > earlier for earlier, later in pairwise(objective))
    assert objective[-1] == pytest.approx(problem.objective(g), rel=1e-7)
    assert objective[-1] > problem.objective(SYMMETRY.identity())


def test_what_is_fixed_is_where_the_descent_starts() -> None:
    a, b, wanted = turned_pair()
    fixed = {"s": wanted.turn["s"]}
    g, _ = descend_turning(gains(a, b), fixed)
    assert torch.allclose(g.turn["s"].matrix, fixed["s"].matrix, atol=1e-6)
    assert torch.allclose(g.turn["vo"].matrix, wanted.turn["vo"].matrix, atol=1e-6)


def test_every_group_that_turns_is_part_of_the_element_though_none_does() -> None:
    a = drawn(0)
    g, _ = descend_turning(gains(a, a), {})
    assert g.turn.keys() == SYMMETRY.within.keys()
    assert [g.moved(group) for group in SYMMETRY.sizes] == [0] * len(SYMMETRY.sizes)


# Heads that stand twice in one tensor, and a stream on both axes of another.
TWICE = """
[kinds]
s = "orthogonal"
d = "orthogonal"
[axes]
embed = "5 s"
square = "s s"
mix = "heads heads"
w = "heads*d s"
o = "s heads*d"
"""


@pytest.mark.parametrize("seed", range(4))
def test_where_groups_stand_twice_the_objective_still_never_falls(seed: int) -> None:
    shapes = {"embed": (5, 4), "square": (4, 4), "mix": (3, 3), "w": (6, 4), "o": (4, 6)}
    symmetry = Symmetry(parse_spec(TWICE), shapes)
    pair = [
        {n: torch.randn(s, generator=seeded(2 * seed + i), dtype=torch.float64) for n, s in shapes.items()}
        for i in range(2)
    ]
    pair[0]["mix"], pair[1]["mix"] = (5 * w["mix"] for w in pair)
    problem = Gains(symmetry, *pair)
    g, objective = descend_turning(problem, {})
    assert all(later > earlier for earlier, later in pairwise(objective))
    assert objective[-1] == pytest.approx(problem.objective(g), rel=1e-7)


def test_a_turn_that_is_fixed_for_heads_is_kept_with_them() -> None:
    eye = Turn(torch.eye(6, dtype=torch.float64)[None])
    g, _ = descend_turning(gains(drawn(0), drawn(1)), {"s": eye})
    assert g.turn.keys() == {"s", "qk", "vo"}
    assert g.turn["qk"].within == "heads"


# Queries of six heads, three behind each head of keys, in another order behind each; and pairs that flip.
GROUPED = """
[kinds]
s = "orthogonal"
qk = "rotary half turns"
vo = "orthogonal"
queries = "permutation inside"
[axes]
embed = "13 s"
q = "heads*queries*qk s"
k = "heads*qk s"
v = "heads*vo s"
o = "s heads*queries*vo"
[sizes]
heads = 2
"""
WIDTHS = {"embed": (13, 6), "q": (24, 6), "k": (8, 6), "v": (6, 6), "o": (6, 18)}


def test_queries_are_matched_behind_each_head_of_keys() -> None:
    symmetry = Symmetry(parse_spec(GROUPED), WIDTHS)
    a = {
        n: torch.randn(s, generator=seeded(i), dtype=torch.float64) for i, (n, s) in enumerate(WIDTHS.items())
    }
    wanted = symmetry.random(seeded(8))
    assert not torch.equal(*wanted.turn["queries"].matrix)
    assert blocks_of(symmetry) == [["s"], ["heads", "qk", "vo"], ["queries"]]
    b = symmetry.apply(wanted.inverse(), a)
    problem = Gains(symmetry, a, {n: jittered(w, 0.01, i) for i, (n, w) in enumerate(b.items())})
    g, objective = descend_turning(problem, {})
    assert torch.equal(g.perm["heads"], wanted.perm["heads"])
    for group in ("queries", "qk"):
        assert torch.equal(g.turn[group].matrix, wanted.turn[group].matrix)
    for group in ("s", "vo"):
        assert torch.allclose(g.turn[group].matrix, wanted.turn[group].matrix, atol=0.05)
    assert objective[-1] == pytest.approx(problem.objective(g), rel=1e-7)
