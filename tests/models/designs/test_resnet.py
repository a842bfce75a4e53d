from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepalign_cli.models.designs.resnet import ResNet
from tests import nets
from tests.models.designs.builders import inputs_of, same_outputs, same_statistics, weights_of

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


class Bottlenecks(nn.Module):
    """A stem, and torchvision's bottleneck blocks, which have a quarter of the channels inside."""

    def __init__(self, design: ResNet) -> None:
        super().__init__()
        channels = design.widths[0]
        self.conv1, self.bn1 = nets.conv3x3(design.colours, channels), nn.BatchNorm2d(channels)
        for stage, width in enumerate(design.widths, 1):
            stack = nn.Sequential()
            for block in range(design.blocks):
                stride = 2 if stage > 1 and block == 0 else 1
                changes = stride != 1 or channels != width
                skip = nn.Sequential(nets.conv1x1(channels, width, stride), nn.BatchNorm2d(width))
                stack.append(nets.Bottleneck(channels, width // 4, stride, skip if changes else None))
                channels = width
            self.add_module(f"layer{stage}", stack)
        self.fc, self.count = nn.Linear(channels, design.classes), len(design.widths)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(1, self.count + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


def test_bottlenecks_are_torchvisions() -> None:
    design = ResNet((8, 12), blocks=2, squeeze=4)
    assert same_outputs(design, Bottlenecks(design))
    assert same_statistics(design, Bottlenecks(design))


def test_the_activation_is_the_one_asked_for() -> None:
    relu, silu = ResNet((4, 6)), ResNet((4, 6), activation="silu")
    weights, x = weights_of(relu), inputs_of(relu)
    assert not torch.allclose(relu(weights, x), silu(weights, x), atol=1e-3)


@pytest.mark.parametrize("design", DESIGNS)
def test_it_is_torchvisions(design: ResNet) -> None:
    assert same_outputs(design, SmallStem(design))


@pytest.mark.parametrize("design", DESIGNS)
def test_batch_statistics_are_used_and_kept(design: ResNet) -> None:
    assert same_statistics(design, SmallStem(design))
