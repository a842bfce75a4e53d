"""The best move of a group with phases: no other sign and half turn does better; a planted one is found."""

import math

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.steps import nearest_turns, signed_step
from deepalign_cli.aligners.weights import WeightMatching, descend
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.train.known import traced_spec

HALF = math.pi / 30


def test_nearest_turns_have_the_parity_that_is_asked_for() -> None:
    difference = torch.linspace(-1, 1, 50)[None].double()

    for odd in (0, 1):
        turns = nearest_turns(difference, HALF, odd=odd)
        assert (turns % 2 == odd).all()
        assert ((difference - turns * HALF).abs() <= HALF * (1 + 1e-9)).all()


def test_the_step_of_one_unit_is_the_best_of_all_signs_and_half_turns() -> None:
    draw = torch.Generator().manual_seed(3)
    for _ in range(20):
        made, read, a, b = (float(torch.randn((), generator=draw)) for _ in range(4))
        step = signed_step(
            torch.zeros(1, 1).double(),
            torch.full((1, 1), made).double(),
            torch.full((1, 1), read).double(),
            (torch.tensor([a]).double(), torch.tensor([b]).double()),
            HALF,
        )

        def value(s: int, k: int, of: tuple[float, ...] = (made, read, a, b)) -> float:
            return s * of[0] + s * (-1) ** k * of[1] - (of[2] - s * of[3] - k * HALF) ** 2 / 2

        best = max(value(s, k) for s in (1, -1) for k in range(-99, 100))
        assert step.sign is not None
        assert step.shift is not None
        assert value(int(step.sign), int(step.shift)) == pytest.approx(best)
        assert step.rise == pytest.approx(best - value(1, 0))


def siren(seed: int) -> tuple[Symmetry, dict[str, Tensor]]:
    design = Siren((2, 12, 10, 1))
    weights = design.init(torch.Generator().manual_seed(seed))
    return Symmetry(traced_spec(design), {n: tuple(w.shape) for n, w in weights.items()}), {
        n: w.double() for n, w in weights.items()
    }


def test_the_objective_rises_by_what_each_step_says_and_gives_the_distance() -> None:
    (symmetry, a), (_, b) = siren(0), siren(1)
    problem, rng = Gains(symmetry, a, b), torch.Generator().manual_seed(0)

    g, objective = descend(problem, symmetry.identity(), rng)

    assert len(objective) > 2
    assert objective == sorted(objective)
    assert problem.objective(g) == pytest.approx(objective[-1])
    moved = symmetry.apply(g, b)
    apart = sum(float((a[n] - moved[n]).square().sum()) for n in a if symmetry.moves(n))
    assert problem.energy - 2 * objective[-1] == pytest.approx(apart)


def test_a_planted_element_with_half_turns_is_found() -> None:
    symmetry, a = siren(0)
    rng = torch.Generator().manual_seed(1)
    planted = symmetry.random(rng)
    assert any((turns != 0).any() for turns in planted.shift.values())
    b = {n: w + 1e-3 * torch.randn(w.shape, generator=rng) for n, w in symmetry.apply(planted, a).items()}

    found = WeightMatching()(symmetry, a, b, rng=rng).element @ planted

    for group, size in symmetry.sizes.items():
        assert torch.equal(found.perm[group], torch.arange(size))
        assert (found.scale[group] == 1).all()
        assert (found.shift[group] == 0).all()
