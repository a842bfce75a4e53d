"""Names of groups: valid, of their own, the same each time, and after the modules that write them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepalign_cli.models.example import Example
from deepalign_cli.symmetry.spec import format_spec, parse_spec
from deepalign_cli.tracing.pipeline import trace


class Net(nn.Module):
    """Two layers of attention under names that need mending."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.0) for _ in range(2)
        )
        self.add_module("a-b é", nn.Linear(8, 6))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.get_submodule("a-b é")(x).relu())


def test_names_can_be_read_and_parsed() -> None:
    torch.manual_seed(0)
    spec = trace(Net(), Example((torch.randn(2, 4, 5),))).spec
    names = set(spec.sizes)
    assert names >= {
        "layers.0.heads",
        "layers.0.qk",
        "layers.0.vo",
        "a-b é".replace("-", "_").replace(" é", "__"),
    }
    assert len(names) == 1 + 2 * 4 + 1
    assert parse_spec(format_spec(spec)).axes == spec.axes
    torch.manual_seed(1)
    assert list(trace(Net(), Example((torch.randn(2, 4, 5),))).spec.sizes) == list(spec.sizes)
