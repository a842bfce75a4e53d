from __future__ import annotations

import pytest
from torch import nn

from deepalign_cli.models.designs.cnn import CNN
from tests import nets
from tests.models.designs.builders import same_outputs, same_statistics

DESIGNS = [
    CNN((1, 8, 12), 12),
    CNN((3, 8, 12, 12), 8, norm=True, pools=(1, 3), activation="leaky_relu"),
    CNN((3, 8, 12), 12, norm=True, average=True),
    CNN((1, 8, 8), 8, average=True, pools=()),
]


def module_of(design: CNN) -> nn.Module:
    """The same network of PyTorch's layers."""
    body = nn.Sequential()
    for i in range(1, len(design.channels)):
        c_in, c_out = design.channels[i - 1], design.channels[i]
        body.add_module(f"conv{i}", nn.Conv2d(c_in, c_out, 3, padding=1, bias=not design.norm))
        if design.norm:
            body.add_module(f"bn{i}", nn.BatchNorm2d(c_out))
        body.add_module(f"activation{i}", nets.ACTIVATIONS[design.activation]())
        if i in design.pools:
            body.add_module(f"pool{i}", nn.MaxPool2d(2))
    side = 1 if design.average else design.size // 2 ** len(design.pools)
    if design.average:
        body.add_module("mean", nn.AdaptiveAvgPool2d(1))
    body.add_module("flatten", nn.Flatten())
    body.add_module("fc", nn.Linear(design.channels[-1] * side**2, design.classes))
    return body


@pytest.mark.parametrize("design", DESIGNS)
def test_it_is_pytorchs(design: CNN) -> None:
    assert same_outputs(design, module_of(design))


@pytest.mark.parametrize("design", [design for design in DESIGNS if design.norm])
def test_batch_statistics_are_used_and_kept(design: CNN) -> None:
    assert same_statistics(design, module_of(design))
