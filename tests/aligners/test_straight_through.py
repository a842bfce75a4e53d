"""Straight-through refinement, on two MLPs that were trained on one task, and on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.aligners.straight_through import quick_steps, steps_within, trained_match
from deepalign_cli.errors import DataError
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from tests import nets
from tests.aligners.builders import mlp_run, planted, residual, runner, trained
from tests.aligners.test_sinkhorn import Task
from tests.cli.subjects import given, refused
from tests.network.builders import bound
from tests.operations.making import apart, deepalign, metadata, pair
from tests.symmetry.builders import seeded


def shuffled(element: Element) -> Element:
    """A match in which some units have lost their place."""
    swaps = {g: torch.cat([perm[:12].roll(1), perm[12:]]) for g, perm in element.perm.items()}
    return Element(swaps, element.scale)


def alike(symmetry: Symmetry, match: Element) -> dict[str, Tensor]:
    """A prediction that knows a match, with some doubt."""
    doubt = {g: 0.3 * torch.randn(n, n, generator=seeded(4)) for g, n in symmetry.sizes.items()}
    return {g: x + torch.eye(len(x))[match.perm[g]] for g, x in doubt.items()}


def test_it_trains_units_into_the_places_where_the_midpoint_loses_less() -> None:
    symmetry, a, b = trained()
    task, good = Task(a), METHODS["weights"].make({})(symmetry, a, b, rng=seeded(0)).element
    start, pair = shuffled(good), Pair(symmetry, a, b)
    found = trained_match(pair, alike(symmetry, start), start, task, 100, seeded(0))

    judge = task.judging(symmetry, a, b)
    assert found.after < 0.9 * found.before
    assert judge(found.element) < 0.9 * judge(start)
    again = trained_match(pair, alike(symmetry, start), start, task, 100, seeded(0))
    assert all(torch.equal(again.element.perm[g], perm) for g, perm in found.element.perm.items())


def test_it_starts_at_the_match_that_it_is_given() -> None:
    symmetry, a, b = trained()
    start = symmetry.random(seeded(3))
    found = trained_match(
        Pair(symmetry, a, b), alike(symmetry, symmetry.identity()), start, Task(a), 0, seeded(0)
    )

    assert found.before == found.after
    assert residual(symmetry, symmetry.apply(start, b), b, found.element) < 1e-12


@pytest.mark.parametrize("activation", [None, Activation.TANH, Activation.RELU])
def test_signs_and_scales_stay_those_of_the_start(activation: Activation | None) -> None:
    symmetry, a, b, g = planted("named_mlp", activation, double=True)
    run, shape = runner("named_mlp")
    x = torch.randn(64, *shape, generator=seeded(5), dtype=torch.float64)
    wanted = run(a, x).detach()

    class Loss:
        def __len__(self) -> int:
            return len(x)

        def __call__(self, weights: object, places: torch.Tensor) -> torch.Tensor:
            return functional.mse_loss(run(weights, x[places]), wanted[places])  # type: ignore[arg-type]

    pair = Pair(symmetry, a, b)
    found = trained_match(pair, alike(symmetry, pair.viewed(g)), g, Loss(), 3, seeded(0))
    assert residual(symmetry, a, b, found.element) < 1e-9
    unlike = trained_match(pair, alike(symmetry, symmetry.identity()), g, Loss(), 3, seeded(0))
    assert residual(symmetry, a, b, unlike.element) < 1e-9


def test_nobody_waits_long_for_training_that_nobody_asked_for() -> None:
    symmetry, a, b = trained()
    assert quick_steps(Pair(symmetry, a, b), Task(a)) == 100
    wide = {"1.weight": torch.zeros(3000, 4), "2.weight": torch.zeros(2, 3000)}
    large = bound({n: tuple(w.shape) for n, w in wide.items()}, **{"1__weight": "h 4", "2__weight": "2 h"})

    class Loss(Task):
        def __init__(self) -> None:
            pass

        def __len__(self) -> int:
            return 10

        def __call__(self, weights: Weights, places: torch.Tensor) -> torch.Tensor:
            return (torch.zeros(len(places), 4) @ weights["1.weight"].T @ weights["2.weight"].T).sum()

    assert quick_steps(Pair(large, wide, wide), Loss()) == 0
    assert steps_within(large) == 0  # which is known before anything is dreamed
    assert steps_within(symmetry) == 100


@pytest.mark.slow
def test_it_is_never_worse_than_what_auto_keeps() -> None:
    symmetry, a, b = trained()
    task = Task(a)
    judge = task.judging(symmetry, a, b)
    found = {
        refine: METHODS["deepalign"].make({"refine": refine, "steps": 60}, task.evidence)(
            symmetry, a, b, rng=seeded(0)
        )
        for refine in ("auto", "ste")
    }
    assert judge(found["ste"].element) <= judge(found["auto"].element)
    assert found["ste"].details["kept"] == "ste"
    assert str(found["ste"].details["why"]).startswith("training took the loss half-way from ")


def test_without_a_loss_there_is_nothing_to_train_on() -> None:
    symmetry, a, b = trained()
    evidence = Evidence(mlp_run, lambda: [torch.randn(4, 12)])
    with pytest.raises(DataError, match="--refine ste trains on a loss"):
        METHODS["deepalign"].make({"refine": "ste"}, evidence)(symmetry, a, b, rng=seeded(0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["named_mlp", "plain_cnn_bn"])
def test_on_the_command_line_the_output_is_the_same_function(kind: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path, kind)
    out = tmp_path / "out.safetensors"
    how = ("--refine", "ste", "--steps", 3, *given(tmp_path, kind))
    done = deepalign("align", a, b, "-o", out, *how, "--json")

    assert (done.code, done.err) == (0, "")
    module, shape = nets.ALL[kind]()
    assert apart(module.eval(), b, out, shape) <= 1e-5
    told = metadata(out)
    assert {k: told[f"deepalign.{k}"] for k in ("method", "refine", "steps", "network.name")} == {
        "method": "deepalign", "refine": "ste", "steps": "3", "network.name": DEFAULT_NETWORK
    }  # fmt: skip


def test_what_has_no_effect_is_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    refused(deepalign("align", a, b, "--refine", "ste"), 2, "--refine ste needs data")
    idle = deepalign("align", a, b, "--steps", 3)
    refused(idle, 2, "-m deepalign makes no use of --steps")
    assert "give -m deepalign --refine ste or sinkhorn" in idle.err


@pytest.mark.parametrize(("count", "held"), [(4, 0), (5, 1)])
def test_few_examples_are_all_trained_on(count: int, held: int) -> None:
    symmetry, a, b = trained()
    data = torch.randn(count, a["0.weight"].shape[1], generator=seeded(1))
    start = symmetry.random(seeded(3))
    found = trained_match(
        Pair(symmetry, a, b), alike(symmetry, symmetry.identity()), start, _Few(data), 2, seeded(0)
    )
    assert found.held == held


@dataclass(frozen=True)
class _Few:
    data: Tensor

    def __len__(self) -> int:
        return len(self.data)

    def __call__(self, weights: Weights, places: Tensor) -> Tensor:
        return mlp_run(weights, self.data[places]).square().mean().double()
