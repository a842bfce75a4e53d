from __future__ import annotations

import pytest
from torch import nn

from deepalign_cli.models.designs.conv1d import Conv1d
from tests import nets
from tests.models.designs.builders import same_outputs

DESIGNS = [
    Conv1d((8, 12), size=9),
    Conv1d((8,), kernel=3, size=5, colours=3, norm=True, activation="gelu", classes=4),
]


def module_of(design: Conv1d) -> nn.Module:
    """The same network of PyTorch's layers."""
    body = nn.Sequential(nn.Flatten(1, 2))
    channels = (design.colours * design.size, *design.channels)
    for i in range(1, len(channels)):
        body.add_module(
            f"conv{i}",
            nn.Conv1d(
                channels[i - 1], channels[i], design.kernel, padding=design.kernel // 2, bias=not design.norm
            ),
        )
        if design.norm:
            body.add_module(f"bn{i}", nn.BatchNorm1d(channels[i]))
        body.add_module(f"activation{i}", nets.ACTIVATIONS[design.activation]())
    body.add_module("mean", nn.AdaptiveAvgPool1d(1))
    body.add_module("flat", nn.Flatten())
    body.add_module("fc", nn.Linear(channels[-1], design.classes))
    return body


@pytest.mark.parametrize("design", DESIGNS)
def test_it_is_pytorchs(design: Conv1d) -> None:
    assert same_outputs(design, module_of(design))
