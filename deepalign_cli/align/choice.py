"""Which candidate to keep when there is no data to judge by.

Weight distance is the wrong judge where the aligner knows the networks: weight matching after the
prediction lowers the distance and raises the barrier. It is a fair one where the aligner does not. What
tells the two cases apart without data is how sure the prediction is: the share of units that are each
other's nearest. `benchmarks/alignment.py` shows the rule beside what it chooses from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.symmetry.element import Element

NAMES = ("none", "prior", "weights")
KNOWN = 0.5  # of the units are each other's nearest: below, the aligner does not know such networks


@dataclass(frozen=True)
class Prediction:
    """The similarities and their rounding."""

    similarity: Mapping[str, Float[Tensor, "_ _"]]
    element: Element

    @cached_property
    def agreement(self) -> float:
        """The share of units that are each other's nearest: 1 where the rounding had nothing to settle."""
        mutual = units = 0
        for s in self.similarity.values():
            partner, back = s.argmax(1), s.argmax(0)
            mutual += int((back[partner] == torch.arange(len(s))).sum())
            units += len(s)
        return mutual / units if units else 1.0


@dataclass(frozen=True)
class Candidate:
    """An alignment that could be kept, and the distance that it leaves."""

    name: str
    element: Element
    distance: float


@runtime_checkable
class Candidates(Protocol):
    """Makes a candidate by name: `none`, `prior` or `weights`."""

    def get(self, name: str) -> Candidate: ...


Judge = Callable[[Element], float]  # the loss half-way to the moved network: lower is better


def choose(
    prediction: Prediction, candidates: Candidates, judge: Judge | None = None
) -> tuple[Candidate, str, list[str]]:
    """The candidate to keep, why, and what the user should know. With a judge, the best by data."""
    if judge is not None:
        made = [candidates.get(name) for name in NAMES]
        losses = [judge(candidate.element) for candidate in made]
        best = min(range(len(made)), key=losses.__getitem__)
        return made[best], f"the lowest loss half-way on the data, {losses[best]:.4g}", []
    share = f"{100 * prediction.agreement:.0f} % of the units are each other's nearest"
    if prediction.agreement >= KNOWN:
        return candidates.get("prior"), f"the prediction is sure ({share})", []
    note = f"these networks are unlike those that the aligner was trained on: only {share}"
    return candidates.get("weights"), f"the prediction is unsure ({share})", [note]
