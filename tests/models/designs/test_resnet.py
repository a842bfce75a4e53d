from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn import functional

from deepalign_cli.models.designs.resnet import ResNet
from tests import nets
from tests.models.designs.builders import same_outputs, same_statistics

DESIGNS = [
    ResNet((8, 12), blocks=2),
    ResNet((4, 6, 8), size=32, colours=3, stride=2),
    ResNet((6, 6), classes=4),
]


class SmallStem(nn.Module):
    """torchvision's residual network with a 3x3 stem and without the max-pool."""

    def __init__(self, design: ResNet) -> None:
        super().__init__()
        whole = nets.resnet("basic", design.widths, [design.blocks] * len(design.widths), design.classes)
        self.conv1 = nets.conv3x3(design.colours, design.widths[0], design.stride)
        self.bn1, self.fc = whole.bn1, whole.fc
        self.stages = [f"layer{i + 1}" for i in range(len(design.widths))]
        for name in self.stages:
            self.add_module(name, whole.get_submodule(name))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


@pytest.mark.parametrize("design", DESIGNS)
def test_it_is_torchvisions(design: ResNet) -> None:
    assert same_outputs(design, SmallStem(design))


@pytest.mark.parametrize("design", DESIGNS)
def test_batch_statistics_are_used_and_kept(design: ResNet) -> None:
    assert same_statistics(design, SmallStem(design))
