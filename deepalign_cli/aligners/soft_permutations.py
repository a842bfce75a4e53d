"""Soft permutations of a pair, trained on a loss along the path from A to B that they carry.

Logits of every group are projected to doubly stochastic matrices by Sinkhorn's iterations (Pena et al. 2023,
arXiv 2212.12042), and Adam follows the loss of the network between A and carried B. `hard` carries B by the
nearest permutations instead, through which gradients go as through the soft ones: what is trained is then
the network that will be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.adam import Adam
from deepalign_cli.aligners.evidence import TrainingLoss
from deepalign_cli.assignment import assign, log_sinkhorn
from deepalign_cli.models.slopes import slopes
from deepalign_cli.network.soft import soft_act, straight_through
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import all_widened

Logits = Mapping[str, Float[Tensor, "1 _ _"]]


@dataclass(frozen=True)
class Projection:
    """How logits become matrices: over `temperature`, in so many `iterations`, and rounded if `hard`."""

    temperature: float = 1.0
    iterations: int = 20
    hard: bool = False

    def __call__(self, logits: Float[Tensor, "1 n n"]) -> Float[Tensor, "1 n n"]:
        soft = log_sinkhorn(logits / self.temperature, self.iterations).exp()
        return straight_through(soft) if self.hard else soft


class SoftPermutations:
    """Logits of all groups, on their way from `first`; row i of a matrix is place i of the reference."""

    def __init__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, first: Logits, rate: float,
        projection: Projection,
    ) -> None:  # fmt: skip
        self._symmetry, self._projection = symmetry, projection
        self._a, self._b = all_widened(reference), all_widened(moving)
        self._logits = {g: x.detach().clone().requires_grad_() for g, x in first.items()}
        self._adam, self._rate = Adam(self._logits.values()), rate

    def step(self, loss: TrainingLoss, places: Int64[Tensor, " batch"], alpha: float) -> float:
        """One step of Adam on some examples; returns the loss before it, `alpha` of the way from A to B.

        Where a slope is not finite there is no step.

        Raises:
            DataError: the loss has no gradients.
        """
        value = loss(self._between(alpha), places)
        logits = list(self._logits.values())
        found = slopes(value, logits)
        if all(bool(torch.isfinite(slope).all()) for slope in found):
            self._adam.step(found, self._rate)
        return float(value.detach())

    def _between(self, alpha: float) -> Weights:
        """The network so far from A to carried B."""
        matrices = {group: self._projection(x) for group, x in self._logits.items()}
        mixed = {}
        for name, w in self._a.items():
            if not w.is_floating_point():
                mixed[name] = w
                continue
            typed = {group: matrix.to(w.dtype) for group, matrix in matrices.items()}
            moved = soft_act(self._symmetry, typed, name, self._b[name].to(w.dtype).unsqueeze(0)).squeeze(0)
            mixed[name] = torch.lerp(w, moved, alpha)
        return mixed

    def rounded(self) -> Element:
        """The permutations now. Sinkhorn's scaling adds a number a row and a column: no assignment moves."""
        return Element({g: assign(x[0].detach()) for g, x in self._logits.items()})
