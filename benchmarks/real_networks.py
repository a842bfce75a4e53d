"""The networks of four public packages as plain modules, in tensors that PyTorch users would expect."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

ELEMENTS = ("H", "C", "N", "O")
_ATOM_WIDTHS = {"H": (160, 128, 96), "C": (144, 112, 96), "N": (128, 112, 96), "O": (128, 112, 96)}


class Atoms(nn.Module):
    """torchani's ANI-1x: one MLP an element, from the surroundings of an atom to its energy in Hartree.

    An example is one atom of each element.
    """

    def __init__(self) -> None:
        super().__init__()
        self.elements = nn.ModuleDict({name: _mlp(384, *_ATOM_WIDTHS[name]) for name in ELEMENTS})

    def forward(self, x: Float[Tensor, "b 4 384"]) -> Float[Tensor, "b 4"]:
        return torch.cat([net(x[:, i]) for i, net in enumerate(self.elements.values())], 1)


def _mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.CELU(0.1)]
    return nn.Sequential(*layers, nn.Linear(widths[-1], 1))


class Block(nn.Module):
    """Two dilated convolutions, each behind BatchNorm and ReLU, added to the stream."""

    def __init__(self, width: int, taps: int, dilation: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.BatchNorm1d(width, eps=1e-3) for _ in range(2))
        self.conv1, self.conv2 = (
            nn.Conv1d(width, width, taps, dilation=dilation, padding="same") for _ in range(2)
        )

    def forward(self, x: Float[Tensor, "b c n"]) -> Float[Tensor, "b c n"]:
        hidden = self.conv1(functional.relu(self.norm1(x)))
        return x + self.conv2(functional.relu(self.norm2(hidden)))


class Splice(nn.Module):
    """SpliceAI-10k: four stages of four blocks; the sum of a projection after each tells splice sites.

    Gives the logits of no site, acceptor and donor for all but the outer `margin` bases on both sides.
    """

    stages = ((11, 1), (11, 4), (21, 10), (41, 25))  # taps, dilation

    def __init__(self, width: int = 32, margin: int = 5000) -> None:
        super().__init__()
        self.margin = margin
        self.stem = nn.Conv1d(4, width, 1)
        self.blocks = nn.ModuleList(Block(width, *shape) for shape in self.stages for _ in range(4))
        self.skips = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in range(len(self.stages) + 1))
        self.head = nn.Conv1d(width, 3, 1)

    def forward(self, x: Float[Tensor, "b 4 n"]) -> Float[Tensor, "b 3 m"]:
        x = self.stem(x)
        total = self.skips[0](x)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i % 4 == 3:
                total = total + self.skips[i // 4 + 1](x)
        return self.head(total[:, :, self.margin : total.shape[2] - self.margin])


class Consensus(nn.Module):
    """medaka's network: two bidirectional GRUs over the columns of a pile of reads, to a base or a gap."""

    def __init__(self, features: int = 10, width: int = 128, classes: int = 5) -> None:
        super().__init__()
        self.gru = nn.GRU(features, width, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Float[Tensor, "b n f"]) -> Float[Tensor, "b n c"]:
        return self.head(self.gru(x)[0])


class Binding(nn.Module):
    """MHCnuggets: an LSTM over the residues of a peptide, to how well it binds (1 - log IC50 / log 50,000).

    Its gates are Keras 2.2's piecewise linear ones. A residue of zeros is padding, which the state passes by.
    """

    def __init__(self, residues: int = 21, width: int = 64) -> None:
        super().__init__()
        self.inward = nn.Linear(residues, 4 * width)
        self.recurrent = nn.Linear(width, 4 * width, bias=False)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 1)

    def forward(self, x: Float[Tensor, "b n r"]) -> Float[Tensor, "b 1"]:
        seen = (x.abs().sum(2, keepdim=True) > 0).to(x.dtype)
        fed = self.inward(x)
        h = c = torch.zeros_like(fed[:, 0, : self.hidden.in_features])
        for t in range(x.shape[1]):
            enter, keep, new, leave = (fed[:, t] + self.recurrent(h)).chunk(4, 1)
            next_c = _gate(keep) * c + _gate(enter) * new.tanh()
            next_h = _gate(leave) * next_c.tanh()
            c = c + seen[:, t] * (next_c - c)
            h = h + seen[:, t] * (next_h - h)
        return self.head(self.hidden(h).tanh()).sigmoid()


def _gate(x: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
    """Keras's hard sigmoid, which is not PyTorch's: that one has a slope of 1/6."""
    return (0.2 * x + 0.5).clamp(0, 1)
