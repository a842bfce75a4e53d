from __future__ import annotations

from itertools import pairwise

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
    CNN((3, 8, 12), 12, norm=True, pools=(2,), activation="gelu", separable=True),
]


def module_of(design: CNN) -> nn.Module:
    """The same network of PyTorch's layers."""
    body = nn.Sequential()
    number = 0
    for i, (c_in, c_out) in enumerate(pairwise(design.channels), 1):
        convs = [nn.Conv2d(c_in, c_out, 3, padding=1, bias=not design.norm)]
        if design.separable and i > 1:
            depthwise = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=not design.norm)
            convs = [depthwise, nn.Conv2d(c_in, c_out, 1, bias=not design.norm)]
        for conv in convs:
            number += 1
            body.add_module(f"conv{number}", conv)
            if design.norm:
                body.add_module(f"bn{number}", nn.BatchNorm2d(conv.out_channels))
            body.add_module(f"activation{number}", nets.ACTIVATIONS[design.activation]())
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
