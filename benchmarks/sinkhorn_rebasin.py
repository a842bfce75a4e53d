"""Sinkhorn re-basin (Pena et al. 2023), with the task's loss at a random place of the path.

Logits of every group are projected to doubly stochastic matrices by Sinkhorn's iterations, carry B softly,
and are trained by Adam on the task's loss of the interpolated network; linear assignment rounds them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deepalign_cli.assignment import assign, log_sinkhorn
from deepalign_cli.network.soft import soft_act
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.train.tasks import Examples
from deepalign_cli.train.zoo_files import Family
from deepalign_cli.train.zoo_losses import batch_of, losses

_SHARE = 0.8  # of every row of the first soft permutation lies on the start's own place
_JUDGED_IMAGES = 1000

Logits = Mapping[str, Float[Tensor, "1 n n"]]


@dataclass(frozen=True)
class Rebasin:
    """The method's settings."""

    iterations: int = 200
    rate: float = 0.3
    images: int = 200


@dataclass(frozen=True)
class Problem:
    """B is to be carried onto A so that the path between them has a low training loss."""

    symmetry: Symmetry
    family: Family
    examples: Examples
    a: Weights
    b: Weights
    member: int

    def rebasin(self, settings: Rebasin, rng: torch.Generator, start: Element | None = None) -> Element:
        """The element after all iterations, from uniform matrices or from `start`."""
        *_, last = self.steps(settings, rng, start)
        return _rounded(last)

    def steps(
        self, settings: Rebasin, rng: torch.Generator, start: Element | None = None
    ) -> Iterator[Logits]:
        """The logits before the first iteration and after every one; always the same tensors."""
        logits = self._logits(start)
        optimiser = torch.optim.Adam(logits.values(), lr=settings.rate)
        yield logits
        for _ in range(settings.iterations):
            optimiser.zero_grad()
            self._loss(logits, settings.images, rng).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            yield logits

    @torch.no_grad()
    def midpoint_loss(self, logits: Logits) -> float:
        """The rounded midpoint's loss on some training examples, always the same."""
        moved = self.symmetry.apply(_rounded(logits), self.b)
        middle = {n: ((self.a[n] + moved[n]) / 2).unsqueeze(0) for n in self.a}
        return float(self._task_loss(middle, torch.arange(self._examples(_JUDGED_IMAGES))))

    def _loss(self, logits: Logits, images: int, rng: torch.Generator) -> Tensor:
        matrices = {g: log_sinkhorn(x).exp() for g, x in logits.items()}
        alpha = float(torch.rand((), generator=rng))
        mixed = {}
        for name, w in self.b.items():
            moved = soft_act(self.symmetry, matrices, name, w.unsqueeze(0))
            mixed[name] = torch.lerp(self.a[name].unsqueeze(0), moved, alpha)
        rows = torch.randint(self._examples(), (self._examples(images),), generator=rng)
        return self._task_loss(mixed, rows)

    def _task_loss(self, stack: Weights, rows: Tensor) -> Tensor:
        x, y = batch_of(self.examples, self.family.task, rows[None], torch.tensor([self.member]))
        return losses(self.family.design, self.family.task, stack, x, y).mean()

    def _examples(self, most: int | None = None) -> int:
        count = len(self.examples.train_x)
        return count if most is None else min(count, most)

    def _logits(self, start: Element | None) -> dict[str, Tensor]:
        made = {}
        for g, n in self.symmetry.sizes.items():
            logits = torch.zeros(1, n, n)
            if start is not None and n > 1:
                high = math.log(_SHARE / (1 - _SHARE) * (n - 1))
                logits = high * functional.one_hot(start.perm[g], n).float().unsqueeze(0)
            made[g] = logits.requires_grad_()
        return made


def _rounded(logits: Logits) -> Element:
    """Sinkhorn's scaling adds a number a row and a number a column, which moves no assignment."""
    return Element({g: assign(x[0]) for g, x in logits.items()})
