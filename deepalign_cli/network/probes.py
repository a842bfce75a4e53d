"""What the units of networks say when these are run on learned inputs, which need not be inputs that exist.

Each channel is one run: it has its own labelled inputs, and a factor of its own for every entry of a kernel,
since there are no images here that a kernel could be moved over (`patches.py` has some). Units with a sign
have a sine or tanh, those with a scale a ReLU, others a SiLU: a function that commutes with what the unit may
do, so that what a unit says turns and stretches with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.scale_blocks import commuting
from deepalign_cli.symmetry.symmetry import Weights

Nodes = Mapping[str, Float[Tensor, "batch _ channels"]]


class Probes(nn.Module):
    """Stacked weights -> what every unit and every output says of `count` learned inputs."""

    def __init__(self, blueprint: Blueprint, count: int, frequency: float, *, tanh: bool = False) -> None:
        super().__init__()
        self.blueprint, self.frequency, self.tanh = blueprint, frequency, tanh
        self.places = nn.ParameterDict(
            {
                str(i): 2 * torch.rand(link.edge.sizes[1], count) - 1
                for i, link in enumerate(blueprint.links)
                if link.source in blueprint.labels
            }
        )
        self.kernels = nn.ParameterList(
            torch.randn(link.entries, count) if link.entries > 1 else torch.ones(1, count)
            for link in blueprint.links
        )

    def forward(self, weights: Weights) -> Nodes:
        blueprint, said = self.blueprint, dict[str, Tensor]()
        for i, link in enumerate(blueprint.links):
            e = blueprint.matrix(link, weights)
            x = self.places[str(i)] if str(i) in self.places else self._heard(link.source, said[link.source])
            message = torch.stack([e[..., k] @ (x * of_k) for k, of_k in enumerate(self.kernels[i])]).sum(0)
            before = said[link.target] if link.target in said else biases_of(blueprint, link.target, weights)
            said[link.target] = before + message
        return {node: self._heard(node, x) for node, x in said.items()}

    def _heard(self, node: str, x: Float[Tensor, "batch n channels"]) -> Float[Tensor, "batch n channels"]:
        if node in self.blueprint.labels:
            return x
        return commuting(self.blueprint.kind(node), x, self.frequency, tanh=self.tanh)


def check_frequency(frequency: float) -> None:
    """Raise ValueError unless sines may have this frequency."""
    if not 0 < frequency < 1e6:
        raise ValueError(f"frequency must be a positive number, not {frequency!r}")


def biases_of(blueprint: Blueprint, node: str, weights: Weights) -> Float[Tensor, "batch n 1"]:
    """The biases of a group's units, or of labelled outputs; 0 where there are none."""
    biases = [blueprint.bias(vector, weights) for vector in blueprint.biases.get(node, ())]
    if node in blueprint.output_biases:
        biases.append(blueprint.output_bias(node, weights))
    like = next(iter(weights.values()))
    n = blueprint.labels.get(node) or blueprint.symmetry.sizes[node]
    return sum(biases, start=like.new_zeros(len(like), n, 1))
