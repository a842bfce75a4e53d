"""ScaleGMN: a network that reads networks, blind to the order, the sign and the scale of their units.

Kalogeropoulos et al. 2024 ("Scale Equivariant Graph Metanetworks"), as the encoder of Boufalis et al. 2025.
Nodes are units, labelled inputs and labelled outputs; links are weights. A layer is a sweep from the inputs
to the outputs (and back, with `both_ways`) in which every node hears its links:

    m_i = sum_j (A e_ij) * (V x_j),   x_i <- s * x_i + Equiv([x_i, m_i])

With `edges = "full"` every message goes through an Equiv of its own, and features of links are updated
from the invariants of both ends, as in the paper: e_ij <- (B e_ij) * g(Inv x_i, Inv x_j). With "fixed"
e_ij is the weight itself, so that a sweep is a few matrix products, several times faster.

A node's features begin as its bias times a learned vector, or else (`probes` above 0, and not in the paper)
as what the unit says when the network is run on so many learned inputs: see `probes.py`. Either way they turn
and stretch as the unit does.

The latent is an MLP of the groups' means of Inv(x_i) and of the outputs' features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from deepalign_cli.integers import check_integers
from deepalign_cli.network.blueprint import Blueprint, Link
from deepalign_cli.network.latent_reader import LatentReader
from deepalign_cli.network.patches import Patches
from deepalign_cli.network.probes import Nodes, Probes, biases_of, check_frequency
from deepalign_cli.network.scale_blocks import (
    Equivariant,
    Invariant,
    Mlp,
    squared_norm,
    starts_open,
)
from deepalign_cli.symmetry.kinds import PERMUTATION, Kind
from deepalign_cli.symmetry.symmetry import Weights

EDGES = ("fixed", "full")


@dataclass(frozen=True)
class ScaleGmnConfig:
    """`channels` a node, `layers`, and the width of the `latent`.

    `both_ways`: messages go back, too. `probes` learned inputs are run through the network first; then
    `frequency` is the factor inside the sines of units with a sign, the w0 of SIRENs, and with `tanh` they
    are no sines but that. With a `stride` the inputs are patches of images, over which kernels move by so
    many pixels.
    """

    channels: int = 64
    layers: int = 2
    latent: int = 64
    edges: str = "fixed"
    both_ways: bool = False
    probes: int = 0
    frequency: float = 1.0
    stride: int = 0
    tanh: bool = False

    def __post_init__(self) -> None:
        check_integers(self, {"channels": 1, "layers": 0, "latent": 1, "probes": 0, "stride": 0})
        if self.stride and not self.probes:
            raise ValueError("stride is of probes: it needs probes above 0")
        if self.edges not in EDGES:
            raise ValueError(f"edges must be one of {', '.join(EDGES)}, not {self.edges!r}")
        check_frequency(self.frequency)


class ScaleGmn(LatentReader):
    """Stacked weights of one architecture -> a latent for each network."""

    def __init__(self, blueprint: Blueprint, config: ScaleGmnConfig) -> None:
        super().__init__()
        self.blueprint, self.config = blueprint, config
        self.nodes = (*blueprint.labels, *blueprint.groups)
        c = config.channels
        self.places = nn.ParameterDict(
            {str(self._number(end)): torch.randn(n, c) for end, n in blueprint.labels.items()}
        )
        self.probes = _probes(blueprint, config)
        width = config.probes or 1
        biased = (*blueprint.groups, *blueprint.outputs)
        self.enter = nn.ModuleDict(
            {str(self._number(node)): nn.Linear(width, c, bias=False) for node in biased}
        )
        self.layers = nn.ModuleList(Sweep(blueprint, config, first=n == 0) for n in range(config.layers))
        self.read = nn.ModuleList(Invariant(blueprint.kind(g), c, c, 2 * c) for g in blueprint.groups)
        ends = self._ends
        width = 2 * c * len(blueprint.groups) + c * sum(blueprint.labels[end] for end in ends)
        width += config.probes * sum(blueprint.labels[end] for end in blueprint.outputs)
        self.leave = Mlp(width, 4 * config.latent, config.latent)

    def _said(self, weights: Weights) -> Nodes:
        """What nodes say of the probes, or else their biases."""
        blueprint = self.blueprint
        if self.probes is not None:
            said: Nodes = self.probes(weights)
            return said
        return {node: biases_of(blueprint, node, weights) for node in (*blueprint.groups, *blueprint.outputs)}

    def _passed(self, said: Mapping[str, Tensor], weights: Weights) -> Nodes:
        matrices = [self.blueprint.matrix(link, weights) for link in self.blueprint.links]
        x: dict[str, Tensor] = {}
        for end in self.blueprint.labels:
            x[end] = self.places[str(self._number(end))].expand(len(matrices[0]), -1, -1)
        for node, of_node in said.items():
            entered = self.enter[str(self._number(node))](of_node)
            x[node] = x[node] + entered if node in x else entered
        for layer in self.layers:
            matrices, x = layer(matrices, x)
        return x

    def _answers(self, said: Mapping[str, Tensor]) -> list[Tensor]:
        return [said[end].flatten(1) for end in self.blueprint.outputs] if self.probes is not None else []

    @property
    def _ends(self) -> tuple[str, ...]:
        return tuple(self.blueprint.labels) if self.config.both_ways else self.blueprint.outputs

    def _number(self, node: str) -> int:
        return self.nodes.index(node)


class Sweep(nn.Module):
    """One step of every node after the other, from the inputs to the outputs and, perhaps, back."""

    def __init__(self, blueprint: Blueprint, config: ScaleGmnConfig, *, first: bool) -> None:
        super().__init__()
        links, kinds = blueprint.links, kinds_of(blueprint)
        onward = dict.fromkeys(link.target for link in links)
        back = dict.fromkeys(link.source for link in reversed(links)) if config.both_ways else ()
        steps = [(node, False) for node in onward] + [(node, True) for node in back]
        self.steps = nn.ModuleList(
            NodeStep(links, kinds, node, config, back=back, first=first) for node, back in steps
        )
        self.changes = nn.ModuleList(
            LinkStep(link, kinds, config, first=first) for link in links if config.edges == "full"
        )

    def forward(
        self, matrices: list[Tensor], x: Nodes
    ) -> tuple[list[Tensor], dict[str, Float[Tensor, "batch _ channels"]]]:
        """The links' features, and the nodes' after the sweep."""
        new = dict(x)
        for step in self.steps:
            assert isinstance(step, NodeStep)
            new[step.node] = step(matrices, new)
        if not len(self.changes):
            return matrices, new
        return [change(e, new) for change, e in zip(self.changes, matrices, strict=True)], new


class NodeStep(nn.Module):
    """A node's new features, from what it has and hears along its links, or against them."""

    def __init__(
        self, links: tuple[Link, ...], kinds: Mapping[str, Kind | None], node: str, config: ScaleGmnConfig,
        *, back: bool, first: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        c, self.node, self.back, self.kind = config.channels, node, back, kinds[node]
        self.heard = [(i, k) for i, k in enumerate(links) if (k.source if back else k.target) == node]
        self.kinds = [kinds[link.target] for _, link in self.heard]
        each = config.edges == "full"
        self.values = nn.ParameterList(
            torch.randn(1 if each else link.entries, c, c) * c**-0.5 for _, link in self.heard
        )
        entries = [link.entries if first else c for _, link in self.heard] if each else []
        self.links = nn.ModuleList(nn.Linear(n, c, bias=False) for n in entries)
        self.listen = nn.ModuleList(_step_of(self.kind, c, c) for _ in entries)
        self.stay, self.update = nn.Parameter(torch.ones(c)), _step_of(self.kind, 2 * c, c)

    def forward(self, matrices: list[Tensor], x: Nodes) -> Float[Tensor, "batch n channels"]:
        messages = [self._message(n, matrices[i], x, link) for n, (i, link) in enumerate(self.heard)]
        own, heard = x[self.node], torch.stack(messages).sum(0)
        heard = raised(self.kind, heard, own) if self.back else heard
        new: Tensor = self.stay * own + self.update(torch.cat([own, heard], dim=-1))
        return new

    def _message(
        self, number: int, e: Float[Tensor, "batch target source entries"], x: Nodes, link: Link
    ) -> Float[Tensor, "batch _ channels"]:
        values, said = self.values[number], x[link.source]
        if self.back:
            said, e = dual(self.kinds[number], x[link.target]), e.transpose(1, 2)
        if not len(self.links):  # sum over sources and entries of e[t, s, k] (x[s] values[k])
            return torch.stack([e[..., k] @ (said @ values[k]) for k in range(len(values))]).sum(0)
        messages = self.links[number](e) * (said @ values[0]).unsqueeze(1)
        heard: Tensor = self.listen[number](messages)
        return heard.mean(2)


class LinkStep(nn.Module):
    """A link's new features, from its own and the invariants of both ends."""

    def __init__(
        self, link: Link, kinds: Mapping[str, Kind | None], config: ScaleGmnConfig, *, first: bool
    ) -> None:
        super().__init__()
        c, self.ends = config.channels, (link.target, link.source)
        self.read = nn.ModuleList(Invariant(kinds[end] or PERMUTATION, c, c, c) for end in self.ends)
        self.keep = nn.Linear(link.entries if first else c, c, bias=False)
        self.gate = starts_open(nn.Linear(c, c))

    def forward(
        self, e: Float[Tensor, "batch target source entries"], x: Nodes
    ) -> Float[Tensor, "batch target source channels"]:
        target, source = (read(x[end]) for read, end in zip(self.read, self.ends, strict=True))
        new: Tensor = self.keep(e) * self.gate(silu(target.unsqueeze(2) + source.unsqueeze(1)))
        return new


def _probes(blueprint: Blueprint, config: ScaleGmnConfig) -> Probes | Patches | None:
    if not config.probes:
        return None
    if config.stride:
        return Patches(blueprint, config.probes, config.stride, config.frequency, tanh=config.tanh)
    return Probes(blueprint, config.probes, config.frequency, tanh=config.tanh)


def kinds_of(blueprint: Blueprint) -> dict[str, Kind | None]:
    """The kind of every node; None of labelled ends."""
    return {**dict.fromkeys(blueprint.labels), **{g: blueprint.kind(g) for g in blueprint.groups}}


def _step_of(kind: Kind | None, width: int, channels: int) -> nn.Module:
    """What makes a node's new features of what it has and hears."""
    if kind is None:
        return Mlp(width, channels, channels)
    return Equivariant(kind, width, channels, channels)


def dual(kind: Kind | None, x: Float[Tensor, "batch n channels"]) -> Float[Tensor, "batch n channels"]:
    """Features that shrink where the unit stretches: a message back meets the weights' other side.

    The entry e_ij grows with i and shrinks with j, so sum_i e_ij x_i / |x_i|^2 shrinks with j. (The paper
    divides by the weight instead, which none may then be 0.)
    """
    return x / squared_norm(x) if kind is not None and kind.stretches else x


def raised(
    kind: Kind | None, message: Float[Tensor, "batch n channels"], x: Float[Tensor, "batch n channels"]
) -> Float[Tensor, "batch n channels"]:
    """A message m back in the scale of the unit that hears it: |x| m / |m| log(1 + |x| |m|)."""
    if kind is None or not kind.stretches:
        return message
    own, heard = squared_norm(x).sqrt(), squared_norm(message).sqrt()
    return message * own / heard * (own * heard).log1p()
