"""Straight-through refinement (Git Re-Basin: Ainsworth et al. 2023, arXiv 2209.04836, section 3.3).

A soft copy W of the moved network is trained. Forward, the loss is that of the midpoint of A and of g B,
where g is the match that is nearest to W,

    loss((A + g B) / 2),    g = argmax <W, g B>,

found by weight matching from the last one. Backward, g B is taken for W: the gradient goes straight through
the rounding to W. Units change places as soon as W has come nearer to another match.

The paper starts W at A, whose nearest match is weight matching's. Here W starts midway between A and the
match that is refined, which is then the nearest to it; and steps are measured in each tensor's own size, so
that one rate suits all losses. From time to time the loss of the match is measured on training examples, and
the best is kept: it is never worse there than what it started from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import distance
from deepalign_cli.aligners.choice import Candidate, choose, finite_loss
from deepalign_cli.aligners.gains import Gains
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.aligners.weights import descend
from deepalign_cli.errors import DataError
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import all_widened, is_trained

if TYPE_CHECKING:
    from deepalign_cli.aligners.candidates import Prediction
    from deepalign_cli.aligners.evidence import TrainingLoss

_RATE = 0.02  # a step's length, in sizes of the tensor
_MOMENTUM = 0.9
_EXAMPLES = 200  # in a step
_JUDGED = 20  # times at most


def trained_straight_through(prediction: Prediction) -> Candidate:
    """The best refinement of a prediction, trained on the loss at the midpoint.

    Raises:
        DataError: no loss is known to train on.
    """
    pair, evidence, steps = prediction.pair, prediction.evidence, prediction.steps
    assert evidence is not None
    judge = evidence.judge(pair.symmetry, pair.reference, pair.moving)
    if evidence.loss is None or judge is None:
        raise DataError("--refine ste trains on a loss, and the data have no labels.", "give --loss.")
    start = choose(prediction, judge).kept
    progress = prediction.progress.part(1.0, "training straight through", steps)
    before = least = finite_loss(judge(start.element))
    best = judged = start.element
    copy = SoftCopy(pair, start.element)
    for step in range(1, steps + 1 if copy.soft else 1):
        element = copy.step(evidence.loss, prediction.rng)
        if element is not judged and (step % max(1, steps // _JUDGED) == 0 or step == steps):
            judged, value = element, finite_loss(judge(element))
            best, least = (element, value) if value < least else (best, least)
        progress()
    after = distance(pair.symmetry, pair.reference, pair.moving, best)
    return Candidate("ste", best, after, f"training took the loss half-way from {before:.4g} to {least:.4g}")


class SoftCopy:
    """A network that is trained, and the match that is nearest to it: `element`, of the pair as it came."""

    def __init__(self, pair: Pair, start: Element) -> None:
        self._pair, self._match = pair, pair.viewed(start)
        self.element = start
        self._a, self._b = (all_widened(view) for view in pair.views)
        self._b = {name: w.to(self._a[name].dtype) for name, w in self._b.items()}
        moved = pair.symmetry.apply(self._match, self._b)
        names = [n for n, w in self._a.items() if pair.symmetry.moves(n) and is_trained(n, w)]
        self.soft = {n: torch.lerp(self._a[n], moved[n], 0.5).requires_grad_() for n in names}
        self._pace = {n: torch.zeros_like(w) for n, w in self.soft.items()}

    def step(self, loss: TrainingLoss, rng: torch.Generator) -> Element:
        """Train on a few examples; returns what is nearest then, the same object if nothing moved."""
        places = torch.randint(len(loss), (min(_EXAMPLES, len(loss)),), generator=rng)
        value = loss(self._midpoint(), places)
        names, tensors = zip(*self.soft.items(), strict=True)
        gradients = torch.autograd.grad(value, tensors, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                self._follow(name, gradient)
        return self._nearest(rng)

    def _midpoint(self) -> Weights:
        """Midway between A and the match, whose gradients are the soft copy's."""
        moved = self._pair.symmetry.apply(self._match, self._b)
        for name, w in self.soft.items():
            moved[name] = moved[name] + (w - w.detach())
        return {n: torch.lerp(w, moved[n], 0.5) if w.is_floating_point() else w for n, w in self._a.items()}

    @torch.no_grad()
    def _follow(self, name: str, gradient: Tensor) -> None:
        pace = self._pace[name].mul_(_MOMENTUM).add_(gradient, alpha=1 - _MOMENTUM)
        size = self.soft[name].norm() / (pace.norm() + 1e-30)
        self.soft[name] -= _RATE * size * pace

    @torch.no_grad()
    def _nearest(self, rng: torch.Generator) -> Element:
        symmetry = self._pair.symmetry
        problem = Gains(symmetry, {**self._a, **self.soft}, self._b)
        match = descend(problem, self._match, rng, list(symmetry.sizes))[0]
        if match is not self._match:
            self._match, self.element = match, self._pair.carried(match)
        return self.element
