"""Neural Graphs: the baseline that knows of the order of units, and of neither signs nor scales.

Kofinas et al. 2024 ("Graph Neural Networks for Learning Equivariant Representations of Neural Networks"),
with the aggregation of PNA (Corso et al. 2020): mean, minimum, maximum and standard deviation of the
messages, each also times the logarithm of their number. Links modulate messages,
m_ij = (1 + A e_ij) * (V x_j) + B e_ij; nodes and links are updated by MLPs with residuals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import silu

from deepalign_cli.integers import check_integers
from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.latent_reader import LatentReader
from deepalign_cli.network.probes import Nodes, Probes, check_frequency
from deepalign_cli.network.scale_blocks import Mlp
from deepalign_cli.symmetry.symmetry import Weights

_LEAST_VARIANCE = 1e-5


@dataclass(frozen=True)
class NeuralGraphsConfig:
    """`channels` a node and a link, `layers`, the width of the `latent`; `waves` of each weight are read.

    `probes` and `frequency` are those of ScaleGMN: here, too, nodes may begin with what they say of probes.
    """

    channels: int = 64
    layers: int = 4
    latent: int = 64
    waves: int = 16
    probes: int = 0
    frequency: float = 1.0

    def __post_init__(self) -> None:
        check_integers(self, {"channels": 1, "layers": 1, "latent": 1, "waves": 1, "probes": 0})
        check_frequency(self.frequency)


class NeuralGraphs(LatentReader):
    """Stacked weights of one architecture -> a latent for each network, whatever the order of its units."""

    def __init__(self, blueprint: Blueprint, config: NeuralGraphsConfig) -> None:
        super().__init__()
        self.blueprint, self.config = blueprint, config
        c = config.channels
        self.nodes = (*blueprint.labels, *blueprint.groups)
        self.places = nn.ParameterList(torch.randn(blueprint.labels.get(node, 1), c) for node in self.nodes)
        self.of_biases = nn.ModuleList(Waves(1, config.waves, c) for _ in self.nodes)
        self.of_weights = nn.ModuleList(Waves(link.entries, config.waves, c) for link in blueprint.links)
        self.probes = Probes(blueprint, config.probes, config.frequency) if config.probes else None
        said = (*blueprint.groups, *blueprint.outputs) if config.probes else ()
        self.enter = nn.ModuleDict({str(self.nodes.index(n)): nn.Linear(config.probes, c) for n in said})
        self.layers = nn.ModuleList(
            PnaLayer(blueprint, c, last=number == config.layers - 1) for number in range(config.layers)
        )
        self.read = nn.ModuleList(Mlp(c, c, 2 * c) for _ in blueprint.groups)
        width = 2 * c * len(blueprint.groups) + c * sum(blueprint.labels[end] for end in blueprint.outputs)
        width += config.probes * sum(blueprint.labels[end] for end in blueprint.outputs)
        self.leave = Mlp(width, 4 * config.latent, config.latent)

    def _said(self, weights: Weights) -> Nodes:
        """What nodes say of the probes; nothing without any."""
        said: Nodes = self.probes(weights) if self.probes is not None else {}
        return said

    def _answers(self, said: Mapping[str, Tensor]) -> list[Tensor]:
        return [said[end].flatten(1) for end in self.blueprint.outputs if end in said]

    def _passed(self, said: Mapping[str, Tensor], weights: Weights) -> Nodes:
        links = self.blueprint.links
        matrices = [self.blueprint.matrix(link, weights) for link in links]
        e = [wave(w) for wave, w in zip(self.of_weights, matrices, strict=True)]
        x = self._enter(weights, len(matrices[0]))
        for node, of_node in said.items():
            x[node] = x[node] + self.enter[str(self.nodes.index(node))](of_node)
        for layer in self.layers:
            e, x = layer(e, x)
        return x

    def _enter(self, weights: Weights, batch: int) -> dict[str, Tensor]:
        blueprint, x = self.blueprint, {}
        for node, place, waves in zip(self.nodes, self.places, self.of_biases, strict=True):
            biases = [blueprint.bias(vector, weights) for vector in blueprint.biases.get(node, ())]
            if node in blueprint.output_biases:
                biases.append(blueprint.output_bias(node, weights))
            n = blueprint.labels.get(node) or blueprint.symmetry.sizes[node]
            x[node] = place.expand(batch, n, -1) + sum(map(waves, biases), start=place.new_zeros(()))
        return x


class Waves(nn.Module):
    """Numbers as sines and cosines of learned multiples of them, mapped to channels."""

    def __init__(self, entries: int, waves: int, channels: int) -> None:
        super().__init__()
        self.multiples = nn.Linear(entries, waves, bias=False)
        self.leave = nn.Linear(2 * waves + entries, channels)

    def forward(self, w: Float[Tensor, "*batch entries"]) -> Float[Tensor, "*batch channels"]:
        z = self.multiples(w)
        y: Tensor = self.leave(torch.cat([w, z.sin(), z.cos()], dim=-1))
        return y


class PnaLayer(nn.Module):
    """One step of all nodes and links."""

    def __init__(self, blueprint: Blueprint, channels: int, *, last: bool) -> None:
        super().__init__()
        c, self.last = channels, last
        self.links = blueprint.links
        self.values = nn.ModuleList(nn.Linear(c, c) for _ in self.links)
        self.modulate = nn.ModuleList(nn.Linear(c, 2 * c) for _ in self.links)
        self.heard = tuple(dict.fromkeys(link.target for link in self.links))
        self.update = nn.ModuleList(Mlp(9 * c, c, c) for _ in self.heard)
        self.norms = nn.ModuleList(nn.LayerNorm(c) for _ in self.heard)
        if not last:
            self.ends = nn.ModuleList(nn.Linear(c, c) for _ in self.links for _ in range(2))
            self.edges = nn.ModuleList(Mlp(c, c, c) for _ in self.links)

    def forward(
        self, e: list[Tensor], x: dict[str, Tensor]
    ) -> tuple[list[Tensor], dict[str, Float[Tensor, "batch _ channels"]]]:
        """The links' and the nodes' features after the step."""
        heard: dict[str, Tensor] = {}
        for i, (link, of_link) in enumerate(zip(self.links, e, strict=True)):
            scale, shift = self.modulate[i](of_link).chunk(2, dim=-1)
            messages = (1 + scale) * self.values[i](x[link.source]).unsqueeze(1) + shift
            summary = pna(messages)
            heard[link.target] = heard[link.target] + summary if link.target in heard else summary
        new = dict(x)
        for node, update, norm in zip(self.heard, self.update, self.norms, strict=True):
            new[node] = norm(x[node] + update(torch.cat([x[node], heard[node]], dim=-1)))
        return (e if self.last else self._changed(e, new)), new

    def _changed(self, e: list[Tensor], x: dict[str, Tensor]) -> list[Tensor]:
        new = []
        for i, (link, of_link) in enumerate(zip(self.links, e, strict=True)):
            target = self.ends[2 * i](x[link.target]).unsqueeze(2)
            source = self.ends[2 * i + 1](x[link.source]).unsqueeze(1)
            new.append(of_link + self.edges[i](silu(of_link + target + source)))
        return new


def pna(messages: Float[Tensor, "batch target source c"]) -> Float[Tensor, "batch target eight_c"]:
    """Mean, least, largest and standard deviation, and the same times the logarithm of how many there are."""
    variance, mean = torch.var_mean(messages, dim=2, correction=0)
    parts = [mean, messages.amin(2), messages.amax(2), (variance + _LEAST_VARIANCE).sqrt()]
    summary = torch.cat(parts, dim=-1)
    return torch.cat([summary, summary * torch.tensor(1.0 + messages.shape[2]).log()], dim=-1)
