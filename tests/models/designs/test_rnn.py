from __future__ import annotations

import pytest
from torch import Tensor, nn

from deepalign_cli.models.designs.rnn import RNN
from tests.models.designs.builders import same_outputs

DESIGNS = [
    RNN(7, size=6),
    RNN(5, layers=2, size=4, colours=3, classes=4),
    RNN(7, cell="lstm", size=6),
    RNN(5, layers=3, cell="lstm", size=4),
]


class Rows(nn.Module):
    """PyTorch's recurrent layers on the rows of an image, and a linear layer on their mean state."""

    def __init__(self, design: RNN) -> None:
        super().__init__()
        kind = nn.GRU if design.cell == "gru" else nn.LSTM
        self.rnn = kind(design.colours * design.size, design.units, design.layers, batch_first=True)
        self.fc = nn.Linear(design.units, design.classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.rnn(x.transpose(1, 2).flatten(2))
        out: Tensor = self.fc(states.mean(1))
        return out


@pytest.mark.parametrize("design", DESIGNS)
def test_it_is_pytorchs(design: RNN) -> None:
    assert same_outputs(design, Rows(design))
