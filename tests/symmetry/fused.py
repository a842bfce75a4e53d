"""Small networks whose specs need parentheses, or signs and scales at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepalign_cli.symmetry.spec import Spec, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import generic, shapes_of

HEADS, QK, V, STREAM = 3, 4, 5, 6


class ByHead(nn.Module):
    """Attention whose queries, keys and values are one projection, head by head, as in GPT-NeoX."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, STREAM)
        self.qkv = nn.Linear(STREAM, HEADS * (2 * QK + V))
        self.dense = nn.Linear(HEADS * V, STREAM)
        self.out = nn.Linear(STREAM, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        parts = self.qkv(x).unflatten(-1, (HEADS, -1)).transpose(-3, -2)
        q, k, v = parts.split([QK, QK, V], dim=-1)
        mixed = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        return self.out(x + self.dense(mixed.transpose(-3, -2).flatten(-2)))


BY_HEAD = """
basis = "traced and checked"
[kinds]
e = "signed scale"
v = "signed scale"
[sizes]
h = 3
[axes]
"embed.weight" = "r 4"
"embed.bias" = "r"
"qkv.weight" = "h*(~+e|~-e|~+v) r"
"qkv.bias" = "h*(~+e|~-e|~+v)"
"dense.weight" = "r h*~-v"
"dense.bias" = "r"
"out.weight" = "3 r"
"""


class ConvNorm(nn.Module):
    """A norm lets the sign of a channel through to the convolution, and its scale to the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.conv2 = nn.Conv2d(5, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(functional.relu(self.norm(self.conv1(x)))).mean((2, 3))


CONV_NORM = """
basis = "traced and checked"
[kinds]
k = "signed scale"
[axes]
"conv1.weight" = "~k 2 3 3"
"conv1.bias" = "~k"
"norm.weight" = "~+k"
"norm.bias" = "+k"
"norm.running_mean" = "~k"
"norm.running_var" = "k"
"conv2.weight" = "4 -k 3 3"
"""


class LinearMLP(nn.Module):
    """Two layers and nothing between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(5, 7)
        self.fc2 = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x))


LINEAR = """
[kinds]
k = "signed scale"
[axes]
"fc1.weight" = "~+k 5"
"fc1.bias" = "~+k"
"fc2.weight" = "4 ~-k"
"""

FUSED: dict[str, tuple[type[nn.Module], str, tuple[int, ...]]] = {
    "by head": (ByHead, BY_HEAD, (8, 4)),
    "conv and norm": (ConvNorm, CONV_NORM, (2, 6, 6)),
    "linear": (LinearMLP, LINEAR, (5,)),
}


def fused(name: str) -> tuple[nn.Module, Spec, tuple[int, ...]]:
    """A network in evaluation mode, its spec, and the shape of an example."""
    make, text, shape = FUSED[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval(), parse_spec(text), shape


def fused_case(name: str, seed: int = 0) -> tuple[Symmetry, dict[str, Tensor]]:
    """Its symmetry and generic weights in float64."""
    module, spec, _ = fused(name)
    weights = generic(module.double(), seed)
    return Symmetry(spec, shapes_of(weights)), weights
