"""Phases are read off the network: where only a sine sees a bias, and where it is not so."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.models.example import Example
from deepalign_cli.symmetry.phase import Phase
from deepalign_cli.tracing.pipeline import trace
from deepalign_cli.tracing.write import Traced


class Sines(nn.Module):
    """Two layers with a function between them."""

    def __init__(self, between: Callable[[Tensor], Tensor], bias: bool = True) -> None:
        super().__init__()
        self.a, self.b, self.between = nn.Linear(2, 5, bias=bias), nn.Linear(5, 3), between

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.between(self.a(x)))
        return out


def traced(module: nn.Module, *shape: int) -> Traced:
    return trace(module, Example((torch.randn(4, *(shape or (2,))),)))


@pytest.mark.parametrize(
    ("between", "factor"),
    [
        (torch.sin, 1.0),
        (lambda z: torch.sin(30.0 * z), 30.0),
        (lambda z: 0.5 * torch.sin(z / 4 * 3), 0.75),
        (lambda z: torch.sin(-z).tanh(), 1.0),
    ],
)
def test_a_bias_that_only_a_sine_sees_has_a_phase(between: Callable[[Tensor], Tensor], factor: float) -> None:
    found = traced(Sines(between)).spec

    phase = found.phases.get("a.bias")
    assert phase is not None
    assert phase.half_turn == pytest.approx(math.pi / factor)
    assert phase.flips == ("b.weight",)


@pytest.mark.parametrize(
    "between",
    [
        torch.tanh,
        torch.cos,  # is even: what reads it has no sign
        lambda z: torch.sin(z) + z,
        lambda z: torch.sin(z + z.tanh()),
        lambda z: torch.sin(z) * torch.sin(3 * z).square(),
        lambda z: torch.sin(z * z),
    ],
)
def test_else_it_has_none(between: Callable[[Tensor], Tensor]) -> None:
    assert not traced(Sines(between)).spec.phases


@pytest.mark.parametrize("persistent", [False, True])
def test_a_frequency_that_checkpoints_hold_is_not_known(persistent: bool) -> None:
    class Tuned(Sines):
        def __init__(self) -> None:
            super().__init__(torch.sin)
            self.register_buffer("w0", torch.tensor(20.0), persistent=persistent)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.b(torch.sin(self.w0 * self.a(x)))
            return out

    turns = [phase.half_turn for phase in traced(Tuned()).spec.phases.values()]
    assert turns == ([] if persistent else [pytest.approx(math.pi / 20)])


def test_a_layer_without_a_bias_has_none() -> None:
    assert not traced(Sines(torch.sin, bias=False)).spec.phases


def test_a_bias_that_two_layers_share_has_none() -> None:
    first, second, last = nn.Linear(2, 5), nn.Linear(2, 5), nn.Linear(10, 1)
    second.bias = first.bias

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = first, second, last

        def forward(self, x: Tensor) -> Tensor:
            both = torch.cat([torch.sin(self.first(x)), torch.tanh(self.second(x))], -1)
            out: Tensor = self.last(both)
            return out

    assert not traced(Shared()).spec.phases


def test_channels_of_convolutions_have_phases() -> None:
    class Periodic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.out(torch.sin(self.conv(x)).mean((2, 3)))
            return out

    assert traced(Periodic(), 3, 8, 8).spec.phases == {"conv.bias": Phase(math.pi, ("out.weight",))}


class Amplitudes(nn.Module):
    """Sines with an amplitude each, which has their sign, and squares of sines, which have none."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 5), nn.Linear(5, 4), nn.Linear(4, 3)
        self.gain = nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c(torch.sin(self.b(self.gain * torch.sin(4 * self.a(x)))) ** 2)
        return out


def test_what_an_amplitude_keeps_from_flipping_is_no_reader() -> None:
    assert traced(Amplitudes()).spec.phases == {"a.bias": Phase(math.pi / 4, ("gain",))}
