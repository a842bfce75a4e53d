"""Gradients on rotations: the judged loss never rises, and rotations stay of their kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.turned_paths import midpoint, refined_turns
from deepalign_cli.progress import Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import HALF_TURNS
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.turns import is_rotation
from tests.aligners.turning_pairs import SYMMETRY, between, drawn, turned_pair
from tests.symmetry.builders import seeded


@dataclass
class Far:
    """How far a network is from another, as if that were a loss on 300 examples."""

    goal: dict[str, Tensor]
    spoilt: Callable[[Tensor], Tensor] = lambda x: x
    batch: int = 300

    def __len__(self) -> int:
        return 300

    def __call__(self, weights: Weights, places: Tensor) -> Tensor:
        assert len(places) == 64
        assert int(places.max()) < 300
        terms = [(weights[n].double() - w.double()).square().sum() for n, w in self.goal.items()]
        return self.spoilt(torch.stack(terms).sum())

    def judge(self, weights: Weights) -> float:
        terms = [(weights[n].double() - w.double()).square().sum() for n, w in self.goal.items()]
        return float(torch.stack(terms).sum())

    def of(self, a: dict[str, Tensor], b: dict[str, Tensor], g: Element) -> float:
        return self.judge(midpoint(SYMMETRY, a, b, g))


def of_kind(g: Element) -> bool:
    return all(is_rotation(SYMMETRY.kinds[group].nearest, one.matrix) for group, one in g.turn.items())


def start(a: dict[str, Tensor], b: dict[str, Tensor]) -> Element:
    return between(a, b, SYMMETRY.random(seeded(5)))


def test_it_goes_downhill_and_rotations_stay_of_their_kind() -> None:
    a, b, _ = turned_pair()
    loss, told = Far(a), list[float]()
    first = start(a, b)
    progress = Progress(lambda share, _: told.append(share))
    refined = refined_turns(SYMMETRY, a, b, first, loss, 60, seeded(0), progress)
    assert refined.before == loss.of(a, b, first)
    assert refined.after == loss.of(a, b, refined.element) < 0.97 * refined.before
    assert of_kind(refined.element)
    assert all(torch.equal(p, refined.element.perm[group]) for group, p in first.perm.items())
    assert refined.element.turn["qk"].within == "heads"
    assert refined.element.leave.keys() == {"n1", "n2"}
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)


def test_a_start_that_is_best_is_kept() -> None:
    a, b, best = turned_pair()
    loss = Far(a)
    refined = refined_turns(SYMMETRY, a, b, best, loss, 7, seeded(0))
    assert refined.after <= refined.before < 1e-12
    assert of_kind(refined.element)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_no_number_ends_it_with_what_there_is(value: float) -> None:
    a, b = drawn(0), drawn(1)
    loss = Far(a, lambda x: x * value)
    first = start(a, b)
    refined = refined_turns(SYMMETRY, a, b, first, loss, 5, seeded(0))
    assert refined.element is first


def test_nothing_to_turn_and_no_steps() -> None:
    a, b = drawn(0), drawn(1)
    loss = Far(a)
    for first, steps in ((SYMMETRY.identity(), 5), (start(a, b), 0)):
        refined = refined_turns(SYMMETRY, a, b, first, loss, steps, seeded(0))
        assert refined.element is first
        assert refined.before == refined.after


def test_half_types_are_refined_in_single_precision() -> None:
    a, b = ({n: w.half() for n, w in drawn(seed).items()} for seed in (0, 1))
    loss = Far(a)
    refined = refined_turns(SYMMETRY, a, b, start(a, b), loss, 20, seeded(0))
    assert refined.after < refined.before
    assert of_kind(refined.element)


def test_moving_both_ends_alike_moves_the_network_half_way_and_no_more() -> None:
    """So nothing is to be gained by moving both: what counts is how one end lies to the other."""
    a, b = drawn(0), drawn(1)
    g = start(a, b)
    h = between(drawn(2), a, SYMMETRY.random(seeded(6)))
    alike = midpoint(SYMMETRY, SYMMETRY.apply(h, a), b, h @ g)
    moved = SYMMETRY.apply(h, midpoint(SYMMETRY, a, b, g))
    assert all(torch.allclose(alike[name], w, atol=1e-12) for name, w in moved.items())


def test_groups_that_jump_stay_where_they_are() -> None:
    spec = replace(SYMMETRY.spec, kinds={**SYMMETRY.spec.kinds, "qk": HALF_TURNS})
    symmetry, a, b = Symmetry(spec, SYMMETRY.shapes), drawn(0), drawn(1)
    own, other = (symmetry.without_gains(w) for w in (a, b))
    first = own.inverse() @ symmetry.random(seeded(5)) @ other
    refined = refined_turns(symmetry, a, b, first, Far(a), 30, seeded(0))
    assert refined.after < refined.before
    assert torch.equal(refined.element.turn["qk"].matrix, first.turn["qk"].matrix)
    assert not torch.equal(refined.element.turn["s"].matrix, first.turn["s"].matrix)
