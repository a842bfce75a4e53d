"""ScaleGMN: a network that reads networks, blind to the order, the sign and the scale of their units.

Kalogeropoulos et al. 2024 ("Scale Equivariant Graph Metanetworks"), as the encoder of Boufalis et al. 2025.
Nodes are units, labelled inputs and labelled outputs; links are weights. A node's features begin as its
bias times a learned vector, and are scaled and turned as the unit is (`scale_blocks`). In each layer

    agg_i = sum_j (A e_ij) * (V x_j),   x_i <- s * x_i + Equiv([x_i, agg_i])

With `edges = "full"` every message goes through an Equiv of its own, and features of links are updated
from the invariants of both ends, as in the paper: e_ij <- (B e_ij) * g(Inv x_i, Inv x_j). With "fixed"
e_ij is the weight itself, so that a layer is a few matrix products, tens of times faster; a layer of the
metanetwork then acts as one of the network does.

The latent is an MLP of the groups' means of Inv(x_i) and of the outputs' features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.scale_blocks import (
    Equivariant,
    Invariant,
    Mlp,
    squared_norm,
    starts_open,
)
from deepalign_cli.symmetry.kinds import PERMUTATION, Kind
from deepalign_cli.symmetry.symmetry import Weights

Nodes = Mapping[str, Float[Tensor, "batch n channels"]]
EDGES = ("fixed", "full")


@dataclass(frozen=True)
class ScaleGmnConfig:
    """`channels` a node, `layers`, and the width of the `latent`.

    `both_ways`: messages go back, too. `frequency` is the factor inside the sines of units with a sign.
    """

    channels: int = 64
    layers: int = 4
    latent: int = 64
    edges: str = "fixed"
    both_ways: bool = False
    frequency: float = 1.0

    def __post_init__(self) -> None:
        for name in ("channels", "layers", "latent"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a positive integer, not {getattr(self, name)!r}")
        if self.edges not in EDGES:
            raise ValueError(f"edges must be one of {', '.join(EDGES)}, not {self.edges!r}")
        if not 0 < self.frequency < 1e6:
            raise ValueError(f"frequency must be a positive number, not {self.frequency!r}")


class ScaleGmn(nn.Module):
    """Stacked weights of one architecture -> a latent for each network."""

    def __init__(self, blueprint: Blueprint, config: ScaleGmnConfig) -> None:
        super().__init__()
        self.blueprint, self.config = blueprint, config
        self.nodes = (*blueprint.labels, *blueprint.groups)
        c = config.channels
        self.places = nn.ParameterDict(
            {str(self._number(end)): torch.randn(n, c) for end, n in blueprint.labels.items()}
        )
        self.biases = nn.ParameterDict(
            {
                str(self._number(node)): torch.randn(c)
                for node in (*blueprint.groups, *blueprint.output_biases)
            }
        )
        self.layers = nn.ModuleList(self._layers())
        self.read = nn.ModuleList(Invariant(blueprint.kind(g), c, c, 2 * c) for g in blueprint.groups)
        ends = self._ends_read()
        width = 2 * c * len(blueprint.groups) + c * sum(blueprint.labels[end] for end in ends)
        self.leave = Mlp(width, 2 * config.latent, config.latent)

    def forward(self, weights: Weights) -> Float[Tensor, "batch latent"]:
        """The latents of a stack of networks: the same for every network of an orbit."""
        x = self.features(weights)
        means = [read(x[g]).mean(1) for read, g in zip(self.read, self.blueprint.groups, strict=True)]
        ends = [x[end].flatten(1) for end in self._ends_read()]
        latent: Tensor = self.leave(torch.cat([*means, *ends], dim=1))
        return latent

    def features(self, weights: Weights) -> Nodes:
        """The features of every node: those of a group's units move, turn and stretch with them."""
        matrices = [self.blueprint.matrix(link, weights) for link in self.blueprint.links]
        x = self._enter(weights, len(matrices[0]))
        for layer in self.layers:
            matrices, x = layer(matrices, x)
        return x

    def _layers(self) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for number in range(self.config.layers):
            if self.config.edges == "fixed":
                layers.append(Layer(self.blueprint, self.config))
            else:
                layers.append(EdgeLayer(self.blueprint, self.config, first=number == 0))
        return layers

    def _enter(self, weights: Weights, batch: int) -> dict[str, Tensor]:
        blueprint, x = self.blueprint, {}
        for g in blueprint.groups:
            biases = [blueprint.bias(vector, weights) for vector in blueprint.biases[g]]
            zero = next(iter(weights.values())).new_zeros(batch, blueprint.symmetry.sizes[g], 1)
            x[g] = sum(biases, start=zero) * self.biases[str(self._number(g))]
        for end in blueprint.labels:
            place = self.places[str(self._number(end))].expand(batch, -1, -1)
            if end in blueprint.output_biases:
                place = place + blueprint.output_bias(end, weights) * self.biases[str(self._number(end))]
            x[end] = place
        return x

    def _ends_read(self) -> tuple[str, ...]:
        return tuple(self.blueprint.labels) if self.config.both_ways else self.blueprint.outputs

    def _number(self, node: str) -> int:
        return self.nodes.index(node)


class Layer(nn.Module):
    """One step of all nodes, from the messages along the links as they are stored."""

    def __init__(self, blueprint: Blueprint, config: ScaleGmnConfig) -> None:
        super().__init__()
        c = config.channels
        self.links, self.kinds = blueprint.links, kinds_of(blueprint)
        self.ways = (False, True) if config.both_ways else (False,)
        self.values = nn.ParameterList(
            torch.randn(link.entries, c, c) * (c * link.entries) ** -0.5
            for _ in self.ways for link in blueprint.links
        )  # fmt: skip
        heard = {link.target for link in blueprint.links}
        heard |= {link.source for link in blueprint.links} if config.both_ways else set()
        self.heard = [node for node in self.kinds if node in heard]
        width = (1 + len(self.ways)) * c
        self.stay = nn.ParameterList(torch.ones(c) for _ in self.heard)
        self.update = nn.ModuleList(
            step_of(self.kinds[node], width, c, config.frequency) for node in self.heard
        )

    def forward(
        self, matrices: list[Tensor], x: Nodes
    ) -> tuple[list[Tensor], dict[str, Float[Tensor, "batch n channels"]]]:
        """The links' features, and the nodes' after the step."""
        heard = [self.messages(matrices, x, back) for back in self.ways]
        new = dict(x)
        for node, stay, update in zip(self.heard, self.stay, self.update, strict=True):
            parts = [x[node], *(way.get(node, torch.zeros_like(x[node])) for way in heard)]
            new[node] = stay * x[node] + update(torch.cat(parts, dim=-1))
        return self.changed(matrices, new), new

    def messages(self, matrices: list[Tensor], x: Nodes, back: bool) -> dict[str, Tensor]:
        """What every node hears along the links, or against them."""
        heard: dict[str, Tensor] = {}
        for i, (link, e) in enumerate(zip(self.links, matrices, strict=True)):
            target, source = (link.source, link.target) if back else (link.target, link.source)
            said = dual(self.kinds[source], x[source]) if back else x[source]
            e = e.transpose(1, 2) if back else e
            message = self.along(i + back * len(self.links), e, said, target) * e.shape[2] ** -0.5
            message = raised(self.kinds[target], message, x[target]) if back else message
            heard[target] = heard[target] + message if target in heard else message
        return heard

    def along(
        self, number: int, e: Float[Tensor, "batch target source entries"],
        said: Float[Tensor, "batch source channels"], target: str,
    ) -> Float[Tensor, "batch target channels"]:  # fmt: skip
        """Sum over sources and entries of e[t, s, k] (x[s] values[k])."""
        values = self.values[number]
        spoken = [said @ values[k] for k in range(len(values))]
        return torch.stack([e[..., k] @ spoken[k] for k in range(len(values))]).sum(0)

    def changed(self, matrices: list[Tensor], x: Nodes) -> list[Tensor]:
        """The links' features after the step."""
        return matrices


class EdgeLayer(Layer):
    """The same with features on the links: each message is heard by itself, and links are updated, too."""

    def __init__(self, blueprint: Blueprint, config: ScaleGmnConfig, *, first: bool) -> None:
        super().__init__(blueprint, config)
        c = config.channels
        widths = [link.entries if first else c for link in self.links]
        self.values = nn.ParameterList(torch.randn(c, c) * c**-0.5 for _ in self.ways for _ in self.links)
        self.weights = nn.ModuleList(nn.Linear(n, c, bias=False) for _ in self.ways for n in widths)
        targets = [link.source if back else link.target for back in self.ways for link in self.links]
        self.listen = nn.ModuleList(step_of(self.kinds[t], c, c, config.frequency) for t in targets)
        self.keep = nn.ModuleList(nn.Linear(n, c, bias=False) for n in widths)
        self.ends = nn.ModuleList(
            Invariant(self.kinds[end] or PERMUTATION, c, c, c)
            for link in self.links for end in (link.target, link.source)
        )  # fmt: skip
        self.gates = nn.ModuleList(starts_open(nn.Linear(c, c)) for _ in self.links)

    def along(
        self, number: int, e: Float[Tensor, "batch target source entries"],
        said: Float[Tensor, "batch source channels"], target: str,
    ) -> Float[Tensor, "batch target channels"]:  # fmt: skip
        """Sum over sources of Equiv((A e[t, s]) * (V x[s]))."""
        spoken = (said @ self.values[number]).unsqueeze(1)
        heard: Tensor = self.listen[number](self.weights[number](e) * spoken)
        return heard.sum(2)

    def changed(self, matrices: list[Tensor], x: Nodes) -> list[Tensor]:
        new = []
        for i, (link, e) in enumerate(zip(self.links, matrices, strict=True)):
            target = self.ends[2 * i](x[link.target]).unsqueeze(2)
            source = self.ends[2 * i + 1](x[link.source]).unsqueeze(1)
            new.append(self.keep[i](e) * self.gates[i](silu(target + source)))
        return new


def kinds_of(blueprint: Blueprint) -> dict[str, Kind | None]:
    """The kind of every node; None of labelled ends."""
    return {**dict.fromkeys(blueprint.labels), **{g: blueprint.kind(g) for g in blueprint.groups}}


def step_of(kind: Kind | None, width: int, channels: int, frequency: float) -> nn.Module:
    """What makes a node's new features of what it has and hears."""
    if kind is None:
        return Mlp(width, channels, channels)
    return Equivariant(kind, width, channels, channels, frequency)


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
