from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.models.batch_size import MOST, run_and_size
from deepalign_cli.models.module import ModuleRun


def chosen(module: nn.Module, *shape: int) -> int:
    weights = dict(module.eval().state_dict())
    x = torch.randn(10, *shape)
    outputs, size = run_and_size(ModuleRun(module, {name: name for name in weights}), weights, x)
    with torch.no_grad():
        module.load_state_dict(weights, assign=True)
        torch.testing.assert_close(outputs, module(x))
    return size


@pytest.mark.parametrize(
    ("side", "channels", "size"), [(28, 16, 2**21 // (16 * 28 * 28)), (96, 16, 14), (4, 8, MOST)]
)
def test_convolutions_run_as_many_examples_as_their_outputs_allow(
    side: int, channels: int, size: int
) -> None:
    net = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    net(torch.zeros(1, 1, side, side))
    assert chosen(net, 1, side, side) == size


def test_rows_run_as_many_as_there_may_be() -> None:
    assert chosen(nn.Sequential(nn.Linear(784, 2000), nn.ReLU(), nn.Linear(2000, 10)), 784) == MOST


def test_large_inputs_and_weights() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(3000, 800))

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) @ self.w.T.contiguous()[:, :20].repeat(1, 1)[:3]

    assert chosen(Turned(), 3, 512, 512) == 2**21 // (3 * 512 * 512)  # what is made of weights does not count
