"""How alike two networks' units act on the outputs: correlations of gradients.

What a unit responds to is half of what it does; the other half is what the outputs make of it. With r a
random direction in the outputs, the same for both networks, and u what a unit gives before its activation,

    e = d <r, f(x)> / d u

is one number for every unit, example and place, as an activation is. Units of two networks are as alike as
these numbers are correlated, over the examples, the places and a few directions. Outputs are labelled, so
that this needs no alignment, as activations need none because inputs are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from deepalign_cli.aligners.correlations import Correlations, PairMoments, add_rows, summed
from deepalign_cli.aligners.prior import deviation
from deepalign_cli.aligners.steps import Matrices
from deepalign_cli.models.calls import Call, Calls, NormCall
from deepalign_cli.models.on_device import placed_for
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.models.scores import are_scores
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Occurrence, Symmetry, Weights

_DIRECTIONS = 12  # with 4 barriers fall half as much

Effects = Mapping[Occurrence, Sequence[Tensor]]  # units by samples, for each use of a weight


class _Writing(Calls):
    """Keeps what every layer gives, so that gradients with respect to it can be taken."""

    def __init__(self, symmetry: Symmetry, weights: Weights) -> None:
        super().__init__(weights)
        self._places: dict[tuple[str, int], list[Occurrence]] = {}
        for group, places in symmetry.occurrences.items():
            for place in places if group not in symmetry.within else ():
                self._places.setdefault((place.name, place.axis), []).append(place)
        self._given: list[tuple[Occurrence, int, Tensor]] = []

    def layer(self, call: Call) -> Tensor:
        """What is handed on is a copy, lest an activation in place changes what is kept."""
        out, places = call.output(), self._places.get((call.name, call.written), ())
        axis = call.features(out)
        if not places or out.shape[axis] != call.weight.shape[call.written]:
            return out
        out = out if out.requires_grad else out.detach().requires_grad_()
        self._given += [(place, axis, out) for place in places]
        return out + 0

    def batch_norm(self, call: NormCall) -> Tensor:
        """With the batch's own statistics, as dreams were dreamed."""
        return call.in_training()

    def effects(self, run: Run, x: Tensor, directions: Sequence[Tensor]) -> Effects:
        """The effects on some directions of the outputs; none where gradients cannot be taken."""
        self._given.clear()
        with torch.enable_grad():
            out = self.differentiably(run, x)
        if not (out.is_floating_point() and out.requires_grad):
            return {}
        found: dict[Occurrence, list[Tensor]] = {}
        kept = [given for _, _, given in self._given]
        along = [torch.autograd.grad((out * r.to(out)).sum(), kept, retain_graph=True, allow_unused=True)
                 for r in directions]  # fmt: skip  # r as their gradient: torch would load sympy to check it
        for (place, axis, _), gradients in zip(self._given, zip(*along, strict=True), strict=True):
            rows = [Symmetry.unfold(replace(place, axis=axis), g) for g in gradients if g is not None]
            if rows and all(bool(torch.isfinite(row.sum())) for row in rows):
                found.setdefault(place, []).append(torch.cat(rows, dim=1))
        return found


def effects(symmetry: Symmetry, run: Run, a: Weights, b: Weights, batches: Batches) -> Correlations:
    """The correlations of the effects of two networks' units, over all batches.

    Groups of which nothing is known, as where gradients cannot be taken, are left out.
    """
    rng, moments, samples = torch.Generator().manual_seed(0), dict[Occurrence, PairMoments](), 0
    sides = [_Writing(symmetry, weights) for weights in (a, b)]
    a = placed_for(run, a)
    for x in batches():
        samples += len(x)
        with torch.no_grad():
            like = run(a, x[:2])
        directions = _directions(x[:2], like, len(x), rng)
        add_rows(moments, *(side.effects(run, x, directions) for side in sides))
    return summed(symmetry, moments, samples)


def _directions(x: Tensor, like: Tensor, count: int, rng: torch.Generator) -> list[Tensor]:
    """Random directions for so many examples; of scores, whose mean does not count, without their mean."""
    drawn = [torch.randn(count, *like.shape[1:], generator=rng) for _ in range(_DIRECTIONS)]
    return [r - r.mean(-1, keepdim=True) for r in drawn] if are_scores(x, like) else drawn


def with_effects(found: Correlations, acting: Correlations) -> Correlations:
    """Correlations of activations and of effects, each over its standard deviation, in every group."""
    groups: dict[str, Matrices] = {}
    for group in {**found.groups, **acting.groups}:
        parts = [c.groups[group] for c in (found, acting) if group in c.groups]
        shares = [1 / deviation(part) for part in parts]
        plain = torch.stack([share * p.plain for share, p in zip(shares, parts, strict=True)]).sum(0)
        pairs = zip(shares, parts, strict=True)
        turning = [share * part.flipping for share, part in pairs if part.flipping is not None]
        groups[group] = Matrices(plain, torch.stack(turning).sum(0) if turning else None, Element({}))
    return Correlations(groups, found.samples, tuple(g for g in found.unread if g not in groups))
