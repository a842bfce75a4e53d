"""What the layers of recurrent modules read is seen, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from deepalign_cli.models.calls import Call, Calls
from deepalign_cli.symmetry.symmetry import Weights
from tests.symmetry.builders import generic, seeded

KINDS: dict[str, Callable[..., nn.RNNBase]] = {
    "gru": nn.GRU,
    "lstm": nn.LSTM,
    "projected": lambda *sizes, **how: nn.LSTM(*sizes, proj_size=3, **how),
    "tanh": nn.RNN,
    "relu": lambda *sizes, **how: nn.RNN(*sizes, nonlinearity="relu", **how),
}


class Reads(Calls):
    """Writes down what enters every layer."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.entered: dict[str, Tensor] = {}

    def reads(self, call: Call) -> None:
        assert call.fits
        self.entered[call.name] = call.input


def outputs(module: nn.Module, weights: Weights, x: Tensor) -> list[Tensor]:
    """The sequence and all last states."""
    y, states = functional_call(module, dict(weights), (x,))
    return [y, *(states if isinstance(states, tuple) else (states,))]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("both_ways", "bias"), [(False, True), (True, False)])
def test_every_layers_input_is_seen_and_the_outputs_stay(kind: str, both_ways: bool, bias: bool) -> None:
    how = {"num_layers": 3, "bidirectional": both_ways, "bias": bias, "batch_first": True}
    module = KINDS[kind](4, 5, **how).eval()
    weights, x = generic(module), torch.randn(2, 6, 4, generator=seeded(1))
    seen = Reads(weights)
    with seen:
        ours = outputs(module, seen.weights, x)
    for one, other in zip(ours, outputs(module, weights, x), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert seen.entered.keys() == {name for name in weights if name.startswith("weight_ih")}
    assert torch.equal(seen.entered["weight_ih_l0"], x)
    first = KINDS[kind](4, 5, **(how | {"num_layers": 1})).eval()
    hidden = outputs(first, {n: w for n, w in weights.items() if "_l0" in n}, x)[0]
    assert torch.allclose(seen.entered["weight_ih_l1"], hidden, atol=1e-6)


def test_packed_sequences_and_dropout_in_training_are_left_alone() -> None:
    module = nn.GRU(4, 5, num_layers=2)
    weights = generic(module)
    seen = Reads(weights)
    packed = nn.utils.rnn.pack_sequence([torch.randn(n, 4, generator=seeded(n)) for n in (3, 2)])
    with seen:
        y, _ = functional_call(module, dict(seen.weights), (packed,))
    assert torch.equal(y.data, functional_call(module, weights, (packed,))[0].data)
    dropping = nn.GRU(4, 5, num_layers=2, dropout=0.5).train()
    with seen:
        functional_call(dropping, dict(seen.weights), (torch.randn(3, 2, 4),))
    assert not seen.entered


@pytest.mark.filterwarnings("ignore:The tensor attributes")
def test_an_exported_program_is_read_as_its_module_is() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(4, 5, num_layers=2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.gru(x)[0]
            return y

    module, x = Last().eval(), torch.randn(2, 6, 4, generator=seeded(1))
    weights = generic(module)
    program = torch.export.export(module, (x,), strict=False).module()
    seen = Reads(weights)
    with seen:
        y = functional_call(program, dict(seen.weights), (x,))
    assert torch.allclose(y, functional_call(module, weights, (x,)), atol=1e-6)
    assert seen.entered.keys() == {"gru.weight_ih_l0", "gru.weight_ih_l1"}
