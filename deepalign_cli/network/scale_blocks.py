"""Layers that respect what a kind of unit may do to its features: invariant and equivariant ones.

A unit that turns or stretches by q has features q x. With a layer rho and the norm over the features,

    sym(x)   = rho(x) + rho(-x)         of units with a sign
             = rho(x / |x|)             of units with a scale
    Inv(x)   = MLP(sym(x))
    Equiv(x) = W h(V x) * G sym(V x)    h commutes with the kind: sin for signs, relu for scales

(Kalogeropoulos et al. 2024, "Scale Equivariant Graph Metanetworks", sections 4 and 5. There h(x) = x, and the
second factor is Inv(x), with deeper MLPs.)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from deepalign_cli.symmetry.kinds import Kind

_LEAST = 1e-4  # deviation of an input that is taken for one that varies
_FLOOR = 1e-3  # of variances, against the largest
_TINY = 1e-20  # added to squared norms: exact to rounding, and finite where all features are 0


class Mlp(nn.Sequential):
    """Linear, LayerNorm, SiLU, Linear."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, out))


class Symmetrised(nn.Module):
    """Of features that turn or stretch, such as do not: rho = SiLU(LayerNorm(x + b)), symmetrised."""

    def __init__(self, kind: Kind, width: int) -> None:
        super().__init__()
        self.kind, self.norm, self.shift = kind, nn.LayerNorm(width), nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        if self.kind.stretches:
            x = x * squared_norm(x).rsqrt()
        y: Tensor = silu(self.norm(x + self.shift))
        return y + silu(self.norm(self.shift - x)) if self.kind.turns else y


class Invariant(nn.Module):
    """Features that do not change where a unit of `kind` turns or stretches."""

    def __init__(self, kind: Kind, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.enter, self.fold = nn.Linear(width, hidden, bias=False), Symmetrised(kind, hidden)
        self.leave = Mlp(hidden, hidden, out)

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch out"]:
        y: Tensor = self.leave(self.fold(self.enter(x)))
        return y


class Equivariant(nn.Module):
    """Features that turn and stretch with the unit."""

    def __init__(self, kind: Kind, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.kind = kind
        self.enter, self.leave = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, out, bias=False)
        self.fold, self.gate = Symmetrised(kind, hidden), starts_open(nn.Linear(hidden, out))

    def forward(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch out"]:
        h = self.enter(x)
        y: Tensor = self.leave(commuting(self.kind, h)) * self.gate(self.fold(h))
        return y


def commuting(
    kind: Kind, x: Float[Tensor, "*batch width"], frequency: float = 1.0, *, tanh: bool = False
) -> Float[Tensor, "*batch width"]:
    """A function of each feature that commutes with a kind: nothing but a linear map with signed scales."""
    if kind.turns and not kind.stretches:
        return x.tanh() if tanh else (frequency * x).sin()
    if kind.turns:
        return x
    return x.relu() if kind.stretches else silu(x)


def starts_open(last: nn.Linear) -> nn.Linear:
    """A layer whose outputs multiply, so that they begin near 1."""
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.fill_(1.0)
    return last


@torch.no_grad()
def settle(readout: Mlp, x: Float[Tensor, "n width"]) -> None:
    """Let a fresh readout see each input at the same scale, and say uncorrelated numbers of variance one.

    Both are folded into its linear layers. Without it what tells networks apart is a small part of what a
    fresh metanetwork says of them, and a decoder has little to go by.
    """
    first, last = readout[0], readout[-1]
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    deviation = x.std(0) + _LEAST
    first.weight.div_(deviation)
    first.bias.sub_(first.weight @ x.mean(0))
    said = readout(x)
    values, vectors = torch.linalg.eigh(torch.cov(said.T.double()))
    whitening = (vectors * (values.clamp(min=0) + _FLOOR * values.max()).rsqrt() @ vectors.T).to(x.dtype)
    last.bias.copy_(whitening @ (last.bias - said.mean(0)))
    last.weight.copy_(whitening @ last.weight)


def squared_norm(x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch 1"]:
    """The squared norm over the features, never quite 0."""
    return x.square().sum(-1, keepdim=True) + _TINY
