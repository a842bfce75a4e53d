"""Deep-Align: two networks in, one similarity matrix a group out (Navon et al., ICML 2024, section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.network.graph import Graph
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.network.refiner import Logits, Refiner
from deepalign_cli.network.sketches import Sketches
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

    def reader(self, graph: Graph, weights: Weights) -> Callable[[Sketches], Features]:
        """`encode` for any sketches, for encoders that can with what does not depend on them done once."""
        reader = getattr(self.encoder, "reader", None)
        made: Callable[[Sketches], Features] = (
            reader(graph, weights) if reader else partial(self.encoder, graph, weights)
        )
        return made

    def refine(
        self, graph: Graph, a: Weights, b: Weights, similarity: Logits
    ) -> Iterator[tuple[str, Float[Tensor, "_ _"]]]:
        """The refiner's logits of a pair (stacks of one), group by group, from its predicted similarities.

        Raises:
            ValueError: there is no refiner.
        """
        if self.refiner is None:
            raise ValueError("this aligner has no refiner")
        logits = Lazy(similarity, lambda g: self.temperature * similarity[g])
        made: Iterator[tuple[str, Tensor]] = self.refiner(
            graph, strengths(graph, a), strengths(graph, b), logits
        )
        return made
