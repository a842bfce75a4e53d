"""Straight-through refinement: permutations are trained on the loss of the very midpoint that they make.

Forward, the loss is that of the network half-way between A and B under the nearest permutations P to what is
trained,

    loss((A + P B) / 2),

as in Git Re-Basin's straight-through estimator (Ainsworth et al. 2023, arXiv 2209.04836, section 3.3).
There a copy of the weights is trained; here the logits of soft permutations are (Pena et al. 2023), which
begin at the prediction, so that units change places first where the prediction hesitates. Backward, the
gradient goes through Sinkhorn's projection. With a copy of the weights held-out pairs kept higher barriers
in the same time (docs/results.md).

A fifth of the examples is held back. On these the match is judged from time to time, and the best is kept: it
is never worse there than what it started from. Signs and scales stay those of the start.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.aligners.choice import finite_loss
from deepalign_cli.aligners.evidence import TrainingLoss
from deepalign_cli.aligners.pair import Pair
from deepalign_cli.aligners.soft_permutations import Projection, SoftPermutations
from deepalign_cli.assignment import assign
from deepalign_cli.models.work import work
from deepalign_cli.network.similarity import spread
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import all_widened
from deepalign_cli.threads import one_thread

_RATE = 0.03  # of Adam
_SHARPNESS = 3.0  # the deviation of a group's first logits
_LEAD = 1.0  # of the start's places before all others, where it is not the prediction's own
_PROJECTION = Projection(iterations=6, hard=True)
_EXAMPLES = 100  # in a step
_NEAR = 0.25  # every other step is so far from the midpoint at most
_HELD_BACK = 0.2
_MOST_HELD = 1000
_JUDGED = 20  # times

_QUICK = 1.5e11  # as multiplications that nobody asked for: about three seconds on one core
_QUICK_STEPS, _FEWEST_STEPS = 100, 30
_OF_AN_ENTRY = 3000  # multiplications take as long as projecting and rounding one similarity, once


@dataclass(frozen=True)
class Trained:
    """What training found, and the loss half-way, before and after: on `held` examples that it never saw.

    Of fewer than five none are held back, and the loss is on all of them.
    """

    element: Element
    before: float
    after: float
    held: int


@one_thread()
def trained_match(
    pair: Pair, similarity: Mapping[str, Float[Tensor, "_ _"]], start: Element, loss: TrainingLoss,
    steps: int, rng: torch.Generator, progress: Progress = SILENT,
) -> Trained:  # fmt: skip
    """Train from `start`, an element of the pair as it came, by how alike the units of its views are."""
    symmetry, (a, b) = pair.symmetry, map(all_widened, pair.views)
    match = pair.viewed(start)
    moved = symmetry.apply(match, b)
    soft = SoftPermutations(symmetry, a, moved, _logits(similarity, match), _RATE, _PROJECTION)
    seen, held = _parted(len(loss), rng)

    def judge(turn: Element) -> float:
        return _half_way(a, symmetry.apply(turn, moved), loss, held)

    best, before = symmetry.identity(), judge(symmetry.identity())
    least, every = before, max(1, steps // _JUDGED)
    for step in range(1, steps + 1):
        alpha = 0.5 if step % 2 else 0.5 + _NEAR * (2 * float(torch.rand((), generator=rng)) - 1)
        places = torch.randint(len(seen), (min(_EXAMPLES, len(seen)),), generator=rng)
        soft.step(loss, seen[places], alpha)
        if step % every == 0:
            turn = soft.rounded()
            value = judge(turn)
            best, least = (turn, value) if value < least else (best, least)
        progress()
    return Trained(pair.carried(best @ match), before, least, len(held) if len(held) < len(loss) else 0)


@torch.no_grad()
def _half_way(a: Weights, b: Weights, loss: TrainingLoss, places: Int64[Tensor, " held"]) -> float:
    """The mean loss of the midpoint on some examples; what is not a number is the worst."""
    middle = {n: torch.lerp(w, b[n], 0.5) if w.is_floating_point() else w for n, w in a.items()}
    parts = [(len(some), finite_loss(float(loss(middle, some)))) for some in torch.split(places, _EXAMPLES)]
    return sum(count * value for count, value in parts) / len(places)


def quick_steps(pair: Pair, loss: TrainingLoss) -> int:
    """How many steps can be made in a few seconds, as far as multiplications tell; 0 where too few."""
    some = torch.arange(min(_EXAMPLES, len(loss)))
    return steps_within(pair.symmetry, work(pair.reference, lambda weights: loss(weights, some)).total)


def steps_within(symmetry: Symmetry, run: int = 0) -> int:
    """The same for networks that take so many multiplications to `run`; the most, if that is not known."""
    carried = sum(
        math.prod(symmetry.shapes[name]) * symmetry.sizes[group]
        for name in symmetry.spec.axes
        for group in symmetry.groups_of(name)
    )
    entries = sum(n * n for n in symmetry.sizes.values())
    cost = 3 * (run + carried) + _OF_AN_ENTRY * entries  # forward, and twice as much back
    steps = min(_QUICK_STEPS, int(_QUICK / max(1.0, cost)))
    return steps if steps >= _FEWEST_STEPS else 0


def _logits(
    similarity: Mapping[str, Float[Tensor, "_ _"]], match: Element
) -> dict[str, Float[Tensor, "1 _ _"]]:
    """A prediction's similarities, in the frame of a match, spread alike in all groups."""
    made = {}
    for group, perm in match.perm.items():
        framed = _SHARPNESS * spread(similarity[group][:, perm])
        own = torch.arange(len(perm))
        if not torch.equal(assign(framed), own):
            framed[own, own] += _LEAD
        made[group] = framed.unsqueeze(0)
    return made


def _parted(count: int, rng: torch.Generator) -> tuple[Int64[Tensor, " seen"], Int64[Tensor, " held"]]:
    """The places of examples to train on, and of those held back; few are both."""
    order = torch.randperm(count, generator=rng)
    held = min(_MOST_HELD, int(_HELD_BACK * count))
    return (order[held:], order[:held]) if held else (order, order)
