from __future__ import annotations

import pytest
import torch
from torch import nn

from deepalign_cli.errors import DataError
from deepalign_cli.models.module import run_module, shapes_of
from deepalign_cli.models.on_device import CPU, on_device, placed_for, runs_on
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.repair import reestimated
from tests.dreams.networks import DESIGN, images, network
from tests.pretended import AWAY, Away, pretended


def test_on_the_processor_nothing_is_put_around_a_network() -> None:
    weights = network(0)

    assert on_device(DESIGN, CPU) is DESIGN
    assert placed_for(DESIGN, weights) is weights
    assert runs_on(DESIGN) == CPU


def test_the_network_runs_there_and_its_outputs_come_back() -> None:
    weights, x = network(0), images(4).requires_grad_()
    expected = DESIGN(weights, x)
    gradient = torch.autograd.grad(expected.square().sum(), x)[0]
    with pretended() as device:
        run = on_device(DESIGN, AWAY)
        out = run(weights, x)
        assert runs_on(run) == AWAY
        assert not isinstance(out, Away)
        assert torch.equal(torch.autograd.grad(out.square().sum(), x)[0], gradient)
    assert device.ran["conv2d"] == 2
    assert torch.equal(out, expected)


def test_tied_weights_stay_tied_and_what_is_there_stays() -> None:
    w = torch.ones(2, 2)
    with pretended():
        run = on_device(DESIGN, AWAY)
        placed = placed_for(run, {"a": w, "b": w, "c": w + 1})
        assert placed["a"] is placed["b"] is not placed["c"]
        assert placed_for(run, placed) is placed
        read = Lazy("ab", lambda _: w.clone())  # as a checkpoint is read
        assert all(isinstance(one, Away) for one in placed_for(run, read).values())


def test_what_the_module_itself_holds_and_makes_is_there_too() -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.register_buffer("shift", torch.arange(4.0), persistent=False)
            self.register_buffer("order", torch.arange(4).flip(0), persistent=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x[:, self.order] + self.shift) + torch.ones(3)

    module = Shifted()
    weights, x = {name: w.clone() for name, w in module.state_dict().items()}, torch.randn(5, 4)
    with torch.no_grad():
        expected = module(x)
        run = run_module(module, shapes_of(module))
        with pretended():
            out = on_device(run, AWAY)(weights, x)
        assert torch.equal(out, expected)
        assert torch.equal(run(weights, x), expected)  # and on the processor again


def test_norms_are_known_by_their_weights_there() -> None:
    weights, batches = network(0), lambda: images(60).split(20)
    expected = reestimated(DESIGN, weights, batches)
    with pretended() as device:
        found = reestimated(on_device(DESIGN, AWAY), weights, batches)

    assert device.ran["batch_norm"]
    assert len(expected) == 4
    assert all(torch.equal(found[name], w) for name, w in expected.items())


def test_numbers_that_a_device_does_not_know_are_told() -> None:
    class Narrow(torch.Tensor):
        def to(self, *_: object, **__: object) -> torch.Tensor:
            raise TypeError("Cannot convert a MPS Tensor to float64")

    with pytest.raises(DataError, match="cannot be put on 'mps': Cannot convert") as caught:
        on_device(DESIGN, torch.device("mps"))({"w": torch.ones(1).as_subclass(Narrow)}, torch.ones(1))
    assert "--device cpu" in caught.value.hint
