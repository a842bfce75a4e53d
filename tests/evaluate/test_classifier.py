from __future__ import annotations

import pytest
import torch
from torch import nn

from deepalign_cli.evaluate.classifier import accuracy, mlp_logits
from tests import nets
from tests.operations.making import generic


@pytest.mark.parametrize("sizes", [(6, 3), (6, 8, 3), (6, *[4] * 12, 3)])
def test_logits_are_those_of_the_module(sizes: tuple[int, ...]) -> None:
    inputs = torch.randn(7, 6)
    for make in (lambda: nets.named_mlp(sizes), lambda: nets.mlp(sizes)):
        module: nn.Module = generic(make, 0)
        state = dict(module.state_dict())
        shuffled = {name: state[name] for name in sorted(state)}  # fc10 before fc2
        torch.testing.assert_close(mlp_logits(shuffled, inputs), module(inputs))


def test_accuracy() -> None:
    logits = torch.tensor([[0.0, 1.0], [3.0, 2.0], [0.0, 5.0], [1.0, 0.0]])
    assert accuracy(logits, torch.tensor([1, 0, 0, 0])) == 0.75
    assert accuracy(logits, torch.tensor([0, 1, 0, 1])) == 0
