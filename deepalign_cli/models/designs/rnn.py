"""RNN classifiers that read an image row by row, with the names of `nn.GRU` and `nn.LSTM`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepalign_cli.models.designs.base import Statistics, linear, linear_init, uniform
from deepalign_cli.symmetry.symmetry import Weights

_GATES = {"gru": 3, "lstm": 4}


@dataclass(frozen=True)
class RNN:
    """`rnn` of some layers, each of `units`, on the image's rows; `fc` reads the last layer's mean state."""

    units: int
    layers: int = 1
    cell: str = "gru"
    size: int = 14
    colours: int = 1
    classes: int = 10

    def __post_init__(self) -> None:
        if self.cell not in _GATES:
            raise ValueError(f"there is no cell '{self.cell}'")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.colours, self.size, self.size)

    def init(self, rng: torch.Generator) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = {}
        rows, bound = _GATES[self.cell] * self.units, self.units**-0.5
        for layer in range(self.layers):
            into = self.units if layer else self.colours * self.size
            weights[f"rnn.weight_ih_l{layer}"] = uniform(rng, bound, rows, into)
            weights[f"rnn.weight_hh_l{layer}"] = uniform(rng, bound, rows, self.units)
            weights[f"rnn.bias_ih_l{layer}"] = uniform(rng, bound, rows)
            weights[f"rnn.bias_hh_l{layer}"] = uniform(rng, bound, rows)
        return weights | linear_init(rng, "fc", self.classes, self.units)

    def __call__(self, weights: Weights, x: Tensor, statistics: Statistics | None = None) -> Tensor:
        rows = x.transpose(1, 2).flatten(2)  # one step for each row, all its colours
        for layer in range(self.layers):
            rows = self._layer(weights, f"l{layer}", rows)
        return linear(weights, "fc", rows.mean(1))

    def _layer(self, weights: Weights, layer: str, rows: Tensor) -> Tensor:
        """The states after every step."""
        ih, hh, b_ih, b_hh = (
            weights[f"rnn.{part}_{layer}"] for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        state = rows.new_zeros(len(rows), self.units)
        memory, states = state, []
        count = _GATES[self.cell]
        for inputs in (rows @ ih.T + b_ih).unbind(1):
            gates, fed_back = inputs.chunk(count, 1), (state @ hh.T + b_hh).chunk(count, 1)
            if self.cell == "gru":
                reset, update = (torch.sigmoid(a + b) for a, b in zip(gates[:2], fed_back[:2], strict=True))
                fresh = torch.tanh(gates[2] + reset * fed_back[2])
                state = fresh + update * (state - fresh)
            else:
                enter, forget, cell, leave = (a + b for a, b in zip(gates, fed_back, strict=True))
                memory = torch.sigmoid(forget) * memory + torch.sigmoid(enter) * torch.tanh(cell)
                state = torch.sigmoid(leave) * torch.tanh(memory)
            states.append(state)
        return torch.stack(states, 1)
