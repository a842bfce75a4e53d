"""Activation matching: units are matched by the correlations of their activations over some data.

Li et al. 2015 and Ainsworth et al. 2023 (section 3.1) match units by their activations; here these are
standardised, which does better than raw inner products. Activations are taken where they are read: the
input of every layer whose weight carries a group on the axis that meets the input; every position of a
convolution and every token is a sample. They are streamed: only second moments are kept, so that memory is
O(sum n^2) whatever the number of examples.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.align.alignment import Alignment, distance
from deepalign_cli.align.choice import Judge
from deepalign_cli.align.gains import Matrices, best_step
from deepalign_cli.align.pair import Pair
from deepalign_cli.align.prior import descend_with_prior, deviation
from deepalign_cli.errors import DataError, NonFiniteError
from deepalign_cli.models.calls import Call, Calls
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Occurrence, Symmetry, Weights

_KEPT = 8  # pairs: their correlations take n^2 numbers a group
_ROUNDING = 1e-12  # of the mean square: a smaller variance is rounding
_SHARE = 1.0  # of a prediction beside correlations; .5 and 2 were no better on held-out networks
_FIRST = 1e3  # of correlations beside gains, where gains are to decide ties only


class PairMoments:
    """Sums over samples of two networks' activations, of their squares and of all their products.

    They are taken about the first samples' means, lest units that hardly change drown in rounding.
    """

    def __init__(self, n: int) -> None:
        self.count = 0
        self._shift = torch.zeros(2, n, 1)
        self._sums = torch.zeros(2, n, dtype=torch.float64)
        self._squares = torch.zeros(2, n, dtype=torch.float64)
        self._products = torch.zeros(n, n, dtype=torch.float64)

    def add(self, a: Float[Tensor, "n samples"], b: Float[Tensor, "n samples"]) -> None:
        if not self.count:
            self._shift = torch.stack([x.mean(1, keepdim=True) for x in (a, b)])
        self.count += a.shape[1]
        a, b = (x - shift for x, shift in zip((a, b), self._shift, strict=True))
        self._sums += torch.stack([x.sum(1) for x in (a, b)])
        self._squares += torch.stack([x.square().sum(1) for x in (a, b)])
        self._products += a @ b.T

    def correlations(self) -> Float[Tensor, "n n"]:
        """Units of the first network by units of the second; 0 for a unit that never changes."""
        mean = self._sums / self.count
        variance = self._squares / self.count - mean.square()
        changes = variance > _ROUNDING * (variance + (mean + self._shift.squeeze(2)).square())
        inverse = torch.where(changes, variance.clamp(min=1e-300).rsqrt(), 0.0)
        covariance = self._products / self.count - mean[0][:, None] * mean[1]
        return inverse[0][:, None] * covariance * inverse[1]


class _Reading(Calls):
    """Keeps what every place reads of one batch, one row a unit; uses of one weight in their order."""

    def __init__(self, symmetry: Symmetry, weights: Weights, side: str) -> None:
        super().__init__(weights)
        self.found: dict[Occurrence, list[Tensor]] = {}
        self._side = side
        self._places: dict[tuple[str, int], list[Occurrence]] = {}
        for place in (o for places in symmetry.occurrences.values() for o in places):
            self._places.setdefault((place.name, place.axis), []).append(place)

    def reads(self, call: Call) -> None:
        if not call.fits or not call.input.is_floating_point():
            return
        for place in self._places.get((call.name, call.read), ()):
            rows = _rows(place, call)
            if not torch.isfinite(rows.sum()):
                raise NonFiniteError(
                    f"what '{call.name}' reads in the {self._side} network holds NaN or Inf.",
                    "see what the network gives on this data by itself.",
                )
            self.found.setdefault(place, []).append(rows)


def _rows(place: Occurrence, call: Call) -> Float[Tensor, "n samples"]:
    """The units in a layer's input, examples and other places as samples, out of reach of later changes."""
    rows = Symmetry.unfold(replace(place, axis=call.features(call.input)), call.input)
    shared = rows.untyped_storage().data_ptr() == call.input.untyped_storage().data_ptr()
    return rows.clone() if shared else rows


@dataclass(frozen=True)
class Correlations:
    """For every group that is read, the sum over its readers of two networks' correlations.

    Those of sign groups are `flipping`: they change sign with a unit. `samples` counts the examples, and
    `unread` names the groups that no layer reads, `open` those and the ones with units that never change.
    """

    groups: Mapping[str, Matrices]
    samples: int
    unread: tuple[str, ...]

    @property
    def open(self) -> list[str]:
        constant = [group for group, matrices in self.groups.items() if _has_constant(matrices)]
        return [*self.unread, *constant]


def correlations(symmetry: Symmetry, run: Run, a: Weights, b: Weights, batches: Batches) -> Correlations:
    """The correlations of the units of two networks over all batches, each of which is run once.

    Raises:
        DataError: there are no inputs, or they hold NaN or Inf. NonFiniteError: an activation does.
    """
    sides = [_Reading(symmetry, *side) for side in ((a, "first"), (b, "second"))]
    moments: dict[Occurrence, PairMoments] = {}
    samples = 0
    for x in batches():
        if x.is_floating_point() and not torch.isfinite(x).all():
            raise DataError("the inputs hold NaN or Inf.", "clean the data set.")
        samples += len(x)
        for side in sides:
            side.found.clear()
            side.run(run, x)
        _add(moments, sides[0].found, sides[1].found)
    if not samples:
        raise DataError("there are no inputs to run the networks on.", "see that the data set is not empty.")
    return _summed(symmetry, moments, samples)


def _add(
    moments: dict[Occurrence, PairMoments], a: Mapping[Occurrence, list[Tensor]],
    b: Mapping[Occurrence, list[Tensor]],
) -> None:  # fmt: skip
    """Add what both networks read of one batch; where they did not read the same samples, nothing."""
    for place, rows in a.items():
        for own, other in zip(rows, b.get(place, ()), strict=False):
            if own.shape == other.shape:
                moments.setdefault(place, PairMoments(len(own))).add(own, other)


def _summed(symmetry: Symmetry, moments: Mapping[Occurrence, PairMoments], samples: int) -> Correlations:
    groups: dict[str, Matrices] = {}
    for group, n in symmetry.sizes.items():
        parts: dict[bool, Tensor] = {}
        for place in symmetry.occurrences[group]:
            if place in moments:
                flips = symmetry.kinds[group].turns and bool(place.mark)
                parts[flips] = parts.get(flips, torch.zeros(())) + moments[place].correlations()
        if parts:
            plain = parts.get(False, torch.zeros(n, n, dtype=torch.float64))
            groups[group] = Matrices(plain, parts.get(True), symmetry.identity())
    return Correlations(groups, samples, tuple(g for g in symmetry.sizes if g not in groups))


def _has_constant(matrices: Matrices) -> bool:
    value = matrices.plain if matrices.flipping is None else matrices.plain.abs() + matrices.flipping.abs()
    return any(bool((value == 0).all(dim=side).any()) for side in (0, 1))


Judging = Callable[[Symmetry, Weights, Weights], Judge]


class Evidence:
    """A network to run and data to run it on; what was found of the last pairs is kept for other methods.

    A pair is known by its very mappings, whose tensors must not change in between.

    `judging` makes, for a pair, the function that tells the loss half-way, where one is known.
    """

    def __init__(self, run: Run, batches: Batches, judging: Judging | None = None) -> None:
        self.run, self.batches, self._judging = run, batches, judging
        self._kept: deque[tuple[Symmetry, Weights, Weights, Correlations]] = deque(maxlen=_KEPT)

    def correlations(self, symmetry: Symmetry, reference: Weights, moving: Weights) -> Correlations:
        """The correlations of a pair's units.

        Raises:
            DataError, NonFiniteError: as `correlations`.
        """
        for kept in self._kept:
            if kept[0] is symmetry and kept[1] is reference and kept[2] is moving:
                return kept[3]
        found = correlations(symmetry, self.run, reference, moving, self.batches)
        self._kept.append((symmetry, reference, moving, found))
        return found

    def judge(self, symmetry: Symmetry, reference: Weights, moving: Weights) -> Judge | None:
        """What tells the loss half-way between the reference and the moving network under an element."""
        return self._judging(symmetry, reference, moving) if self._judging else None


class ActivationMatching:
    """Activation matching as a method. Methods that share their evidence gather it once.

    Correlations know no scales: those of ReLU units come from canonical scales or stay, whichever is
    closer. Units that never change and groups that no layer reads are matched by their weights. `details`
    hold the number of examples (`samples`) and those groups (`unread`), `objective` the sum of the matched
    correlations.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator
    ) -> Alignment:
        started = time.perf_counter()
        found = self.evidence.correlations(symmetry, reference, moving)
        pair = Pair(symmetry, reference, moving)
        return as_alignment("activations", pair, found, matched(pair, found), started)


def as_alignment(
    method: str, pair: Pair, found: Correlations, match: Element, started: float, **details: object
) -> Alignment:
    """What a method that looks at data returns for a match of a pair's views; begun at `started`."""
    element, after = pair.closest(match)
    told = {"samples": found.samples, "unread": list(found.unread), **details}
    before = distance(pair.symmetry, pair.reference, pair.moving)
    seconds = time.perf_counter() - started
    return Alignment(element, method, seconds, before, after, (total(found, element),), told)


def matched(pair: Pair, found: Correlations) -> Element:
    """The best match of every group by itself; weights decide among units that never change."""
    start = alone(pair.symmetry, found)
    plain, flipping = as_prior(pair.symmetry, found)
    return descend_with_prior(pair.problem, plain, start, found.open, _FIRST, flipping)


def alone(symmetry: Symmetry, found: Correlations) -> Element:
    """The element of the largest sum of correlations."""
    steps = [best_step(matrices).element(group) for group, matrices in found.groups.items()]
    return Element(
        {**symmetry.identity().perm} | {g: p for step in steps for g, p in step.perm.items()},
        {g: s for step in steps for g, s in step.scale.items()},
    )


def as_prior(symmetry: Symmetry, found: Correlations) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The correlations as `descend_with_prior` takes them; 0 for groups that no layer reads."""
    plain = {g: torch.zeros(n, n, dtype=torch.float64) for g, n in symmetry.sizes.items()}
    plain |= {group: matrices.plain for group, matrices in found.groups.items()}
    return plain, {g: m.flipping for g, m in found.groups.items() if m.flipping is not None}


def with_similarity(
    found: Correlations, similarity: Mapping[str, Float[Tensor, "_ _"]], share: float = _SHARE
) -> Correlations:
    """Correlation / std + share * similarity / std in every group; where none is read, similarity alone."""
    groups: dict[str, Matrices] = {}
    for group, similar in similarity.items():
        plain = share * similar.double() / (similar.double().std(correction=0) + 1e-30)
        flipping = None
        if group in found.groups:
            own = found.groups[group]
            over = deviation(own)
            plain, flipping = plain + own.plain / over, None if own.flipping is None else own.flipping / over
        groups[group] = Matrices(plain, flipping, Element({}))
    return Correlations(groups, found.samples, ())


def total(found: Correlations, g: Element) -> float:
    """The sum of the correlations of all units that an element matches."""
    value = 0.0
    for group, matrices in found.groups.items():
        units = torch.arange(len(g.perm[group]))
        value += float(matrices.plain[units, g.perm[group]].sum())
        if matrices.flipping is not None:
            flipping = matrices.flipping[units, g.perm[group]]
            value += float((flipping * g.scale.get(group, torch.ones(len(units)))).sum())
    return value
