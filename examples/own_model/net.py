"""A residual MLP with BatchNorm: an architecture that deepalign does not know by its names and shapes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """x + down(relu(norm(up(x)))), the norm over the hidden units."""

    def __init__(self, stream: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(stream, hidden, bias=False)
        self.norm = nn.BatchNorm1d(hidden)
        self.down = nn.Linear(hidden, stream)

    def forward(self, x: Tensor) -> Tensor:
        moved: Tensor = self.down(functional.relu(self.norm(self.up(x))))
        return x + moved


class Net(nn.Module):
    """Two blocks on a stream, between a linear embedding and a linear head."""

    def __init__(self, stream: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Linear(16, stream)
        self.block1 = Block(stream, hidden)
        self.block2 = Block(stream, hidden)
        self.head = nn.Linear(stream, 8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.block2(self.block1(functional.relu(self.embed(x)))))
        return out


def make(stream: int = 128, hidden: int = 64) -> Net:
    """What `--model net.py:make` calls; `--model-arg hidden=96` gives it an argument."""
    return Net(stream, hidden)
