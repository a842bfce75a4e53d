"""What metanetworks share: from the features of all nodes to one latent of the whole network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.network.blueprint import Blueprint
from deepalign_cli.network.probes import Nodes
from deepalign_cli.network.scale_blocks import Mlp, settle
from deepalign_cli.symmetry.symmetry import Weights


class LatentReader(nn.Module, ABC):
    """Reads stacked networks: every group by the mean over its units, labelled ends as they are.

    A subclass has `read`, a module for each group, and `leave`, from all of that to the latent.
    """

    blueprint: Blueprint
    read: nn.ModuleList
    leave: Mlp

    def forward(self, weights: Weights) -> Float[Tensor, "batch latent"]:
        """The latents of a stack of networks: the same for every network of an orbit."""
        latent: Tensor = self.leave(self._read(weights))
        return latent

    def settle(self, weights: Weights) -> None:
        """Fit the fresh readout to the scales of some networks (`scale_blocks.settle`)."""
        with torch.no_grad():
            settle(self.leave, self._read(weights))

    def features(self, weights: Weights) -> Nodes:
        """The features of every node: those of a group's units move, turn and stretch with them."""
        return self._passed(self._said(weights), weights)

    def _read(self, weights: Weights) -> Float[Tensor, "batch width"]:
        said = self._said(weights)
        x = self._passed(said, weights)
        means = [read(x[g]).mean(1) for read, g in zip(self.read, self.blueprint.groups, strict=True)]
        ends = [x[end].flatten(1) for end in self._ends]
        return torch.cat([*means, *ends, *self._answers(said)], dim=1)

    @property
    def _ends(self) -> tuple[str, ...]:
        """The labelled ends whose features are read."""
        return self.blueprint.outputs

    @abstractmethod
    def _said(self, weights: Weights) -> Nodes:
        """What nodes say before any message."""

    @abstractmethod
    def _passed(self, said: Mapping[str, Tensor], weights: Weights) -> Nodes:
        """The nodes' features after all messages."""

    @abstractmethod
    def _answers(self, said: Mapping[str, Tensor]) -> list[Float[Tensor, "batch _"]]:
        """What the outputs said, where that is read besides."""
