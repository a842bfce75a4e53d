from __future__ import annotations

import pytest
import torch
from torch import nn

from deepalign_cli.models.designs.siren import Siren
from tests import nets
from tests.models.designs.builders import same_outputs
from tests.symmetry.builders import seeded


class Layers(nn.Module):
    """Sine layers called `layers.N`."""

    def __init__(self, design: Siren) -> None:
        super().__init__()
        self.layers = nets.siren(design.sizes, design.w0).seq

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


@pytest.mark.parametrize(
    "design", [Siren((2, 16, 16, 1), 3.0), Siren((3, 8, 2), 30.0), Siren((2, 5, 5, 5, 1), 1.0)]
)
def test_it_is_pytorchs(design: Siren) -> None:
    assert same_outputs(design, Layers(design))


def test_activations_keep_their_spread_through_the_layers() -> None:
    design = Siren((2, 256, 256, 256, 1))
    weights = design.init(seeded(1))
    x = 2 * torch.rand(500, 2, generator=seeded(2)) - 1
    for i in range(3):
        x = torch.sin(30 * (x @ weights[f"layers.{i}.weight"].T + weights[f"layers.{i}.bias"]))
        assert 0.6 < float(x.std()) < 0.8  # of an arcsine distribution: 1/sqrt(2), Sitzmann et al. 2020
