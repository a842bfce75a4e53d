"""Deep-Align: two networks in, one similarity matrix a group out (Navon et al., ICML 2024, section 4)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from deepalign_cli.network.graph import Graph
from deepalign_cli.network.refiner import Logits, Refiner
from deepalign_cli.network.strengths import strengths
from deepalign_cli.network.universal import Features
from deepalign_cli.symmetry.symmetry import Weights

_SHARPEST = 40.0


class DeepAlign(nn.Module):
    """An encoder, one learned temperature and, perhaps, a refiner of pairs.

    The product is `similarities`, the projection `assign`. `encoder` is any of `encoders.ENCODERS`.
    """

    def __init__(self, encoder: Any, refiner: Refiner | None = None) -> None:
        super().__init__()
        self.encoder, self.refiner = encoder, refiner
        self.log_temperature = nn.Parameter(torch.tensor(math.log(10.0)))

    @property
    def temperature(self) -> Tensor:
        """What similarities are multiplied by before they are projected softly."""
        return self.log_temperature.exp().clamp(max=_SHARPEST)

    def encode(self, graph: Graph, weights: Weights, seeds: list[int]) -> Features:
        """The features of a stack of networks; `weights` have a leading batch axis."""
        made: Features = self.encoder(graph, weights, seeds)
        return made

    def refine(self, graph: Graph, a: Weights, b: Weights, similarity: Logits) -> Logits:
        """The refiner's logits of a stack of pairs, from the similarities that were predicted for them.

        Raises:
            ValueError: there is no refiner.
        """
        if self.refiner is None:
            raise ValueError("this aligner has no refiner")
        logits = {g: self.temperature * s for g, s in similarity.items()}
        made: Logits = self.refiner(graph, strengths(graph, a), strengths(graph, b), logits)
        return made
