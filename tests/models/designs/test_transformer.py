from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepalign_cli.models.designs.transformer import Transformer
from tests.models.designs.builders import same_outputs


class Encoder(nn.Module):
    """`nn.TransformerEncoder` on square patches, its outputs' mean read by `head`."""

    def __init__(self, design: Transformer) -> None:
        super().__init__()
        self.patch, width = design.patch, design.width
        self.embed = nn.Linear(design.colours * design.patch**2, width)
        self.pos = nn.Parameter(torch.empty((design.size // design.patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(
            width, design.heads, design.hidden, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, design.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, design.classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        tokens = self.encoder(self.embed(patches) + self.pos)
        out: Tensor = self.head(self.norm(tokens).mean(1))
        return out


@pytest.mark.parametrize(
    "design",
    [
        Transformer(16, 4, 24),
        Transformer(12, 2, 20, layers=1, size=16, patch=4, colours=3),
        Transformer(8, 1, 8, layers=3, classes=3),
    ],
)
def test_it_is_pytorchs(design: Transformer) -> None:
    assert same_outputs(design, Encoder(design))
