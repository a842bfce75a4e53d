"""Straight-through refinement, on two MLPs that were trained on one task, and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.aligners.straight_through import SoftCopy
from deepalign_cli.errors import DataError
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation
from tests import nets
from tests.aligners.builders import mlp_run, planted, residual, runner, trained
from tests.aligners.test_sinkhorn import Task
from tests.cli.subjects import given, refused
from tests.operations.making import apart, deepalign, metadata, pair
from tests.symmetry.builders import seeded


def shuffled(element: Element) -> Element:
    """A match in which some units have lost their place."""
    swaps = {g: torch.cat([perm[:12].roll(1), perm[12:]]) for g, perm in element.perm.items()}
    return Element(swaps, element.scale)


def test_it_starts_at_the_match_and_leaves_it_where_the_loss_pulls_elsewhere() -> None:
    symmetry, a, b = trained()
    task, good = Task(a), METHODS["weights"].make({})(symmetry, a, b, rng=seeded(0)).element
    judge, start = task.judging(symmetry, a, b), shuffled(good)
    copy = SoftCopy(Pair(symmetry, a, b), start)

    assert residual(symmetry, symmetry.apply(copy.element, b), b, start) == 0
    rng, losses = seeded(0), [judge(start)]
    losses += [judge(copy.step(task, rng)) for _ in range(60)]
    assert min(losses) < 0.8 * losses[0]


def test_its_gradient_is_that_of_the_rounded_midpoint() -> None:
    symmetry, a, b = trained()
    task, match = Task(a), symmetry.random(seeded(3))
    copy = SoftCopy(Pair(symmetry, a, b), match)
    midpoint = copy._midpoint()
    moved = symmetry.apply(match, b)

    assert all(torch.allclose(w, (a[name] + moved[name]) / 2, atol=1e-6) for name, w in midpoint.items())
    hard = {name: w.detach().clone().requires_grad_() for name, w in midpoint.items()}
    places = torch.arange(100)
    name = "2.weight"
    (through,) = torch.autograd.grad(task(midpoint, places), [copy.soft[name]])
    (direct,) = torch.autograd.grad(task(hard, places), [hard[name]])
    assert torch.allclose(through, direct / 2, atol=1e-7)


@pytest.mark.parametrize("activation", [None, Activation.TANH, Activation.RELU])
def test_signs_and_scales_are_matched_too(activation: Activation | None) -> None:
    symmetry, a, b, g = planted("named_mlp", activation, double=True)
    run, shape = runner("named_mlp")
    x = torch.randn(64, *shape, generator=seeded(5), dtype=torch.float64)
    wanted = run(a, x).detach()

    class Loss:
        def __len__(self) -> int:
            return len(x)

        def __call__(self, weights: object, places: torch.Tensor) -> torch.Tensor:
            return functional.mse_loss(run(weights, x[places]), wanted[places])  # type: ignore[arg-type]

    copy, rng = SoftCopy(Pair(symmetry, a, b), g), seeded(0)
    for _ in range(3):
        element = copy.step(Loss(), rng)
    assert residual(symmetry, a, b, element) < 1e-9


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
    assert judge(found["ste"].element) < judge(found["auto"].element)
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
