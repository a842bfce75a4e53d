"""Deep-Align: two networks in, one similarity matrix a group out (Navon et al., ICML 2024, section 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.network.graph import Graph
from deepalign_cli.network.similarity import similarities
from deepalign_cli.network.strengths import strengths
from deepalign_cli.network.universal import Features, Universal, UniversalConfig
from deepalign_cli.symmetry.symmetry import Weights

_SHARPEST = 40.0


class DeepAlign(nn.Module):
    """Encoder, product and one learned temperature; the projection is `assignment.assign`."""

    def __init__(self, encoder: Universal) -> None:
        super().__init__()
        self.encoder = encoder
        self.log_temperature = nn.Parameter(torch.tensor(math.log(10.0)))

    @property
    def temperature(self) -> Tensor:
        """What similarities are multiplied by before they are projected softly."""
        return self.log_temperature.exp().clamp(max=_SHARPEST)

    def encode(self, graph: Graph, weights: Weights, seeds: list[int]) -> Features:
        """The features of a stack of networks; `weights` have a leading batch axis."""
        made: Features = self.encoder(graph, strengths(graph, weights), seeds)
        return made
