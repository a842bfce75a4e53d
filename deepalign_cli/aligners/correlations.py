"""How alike two networks' units respond to data: correlations of their activations, streamed.

Activations are taken where they are read: the input of every layer whose weight carries a group on the axis
that meets the input; every position of a convolution and every token is a sample. Only second moments are
kept, so that memory is O(sum n^2) whatever the number of examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.aligners.steps import Matrices
from deepalign_cli.errors import DataError, NonFiniteError
from deepalign_cli.models.calls import Call, Calls
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Occurrence, Symmetry, Weights

_ROUNDING = 1e-12  # of the mean square: a smaller variance is rounding


class PairMoments:
    """Sums over samples of two networks' activations, of their squares and of all their products.

    They are taken about the first samples' means, lest units that hardly change drown in rounding. Sums are
    kept on the processor, wherever the samples are.
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
        self._sums += torch.stack([x.sum(1) for x in (a, b)]).cpu()
        self._squares += torch.stack([x.square().sum(1) for x in (a, b)]).cpu()
        self._products += (a @ b.T).cpu()

    def covariances(self) -> Float[Tensor, "n n"]:
        """Units of the first network by units of the second, not standardised."""
        mean = self._sums / self.count
        return self._products / self.count - mean[0][:, None] * mean[1]

    def correlations(self) -> Float[Tensor, "n n"]:
        """Units of the first network by units of the second; 0 for a unit that never changes."""
        mean = self._sums / self.count
        variance = self._squares / self.count - mean.square()
        changes = variance > _ROUNDING * (variance + (mean + self._shift.squeeze(2).cpu()).square())
        inverse = torch.where(changes, variance.clamp(min=1e-300).rsqrt(), 0.0)
        return inverse[0][:, None] * self.covariances() * inverse[1]


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

    Of groups that turn they are covariances: a rotation mixes units, and those that vary more count more.

    Those of readers that flip with a unit's sign are `flipping`. `samples` counts the examples, and
    `unread` names the groups that no layer reads, `open` those and the ones with units that never change.
    """

    groups: Mapping[str, Matrices]
    samples: int
    unread: tuple[str, ...]

    @property
    def open(self) -> list[str]:
        constant = [group for group, matrices in self.groups.items() if _has_constant(matrices)]
        return [*self.unread, *constant]


def correlations(
    symmetry: Symmetry, run: Run, a: Weights, b: Weights, batches: Batches, progress: Progress = SILENT
) -> Correlations:
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
        add_rows(moments, sides[0].found, sides[1].found)
        progress(len(x))
    if not samples:
        raise DataError("there are no inputs to run the networks on.", "see that the data set is not empty.")
    return summed(symmetry, moments, samples)


def add_rows(
    moments: dict[Occurrence, PairMoments], a: Mapping[Occurrence, Sequence[Tensor]],
    b: Mapping[Occurrence, Sequence[Tensor]],
) -> None:  # fmt: skip
    """Add what is known of both networks' units on one batch; where samples are not the same, nothing."""
    for place, rows in a.items():
        for own, other in zip(rows, b.get(place, ()), strict=False):
            if own.shape == other.shape:
                moments.setdefault(place, PairMoments(len(own))).add(own, other)


def summed(symmetry: Symmetry, moments: Mapping[Occurrence, PairMoments], samples: int) -> Correlations:
    """The correlations of all groups, each the sum over its places."""
    groups: dict[str, Matrices] = {}
    for group, n in symmetry.sizes.items():
        parts: dict[bool, Tensor] = {}
        for place in symmetry.occurrences[group]:
            if place in moments:
                before, found = parts.get(place.flips, torch.zeros(())), moments[place]
                turns = group in symmetry.within
                parts[place.flips] = before + (found.covariances() if turns else found.correlations())
        if parts:
            plain = parts.get(False, torch.zeros(n, n, dtype=torch.float64))
            groups[group] = Matrices(plain, parts.get(True), symmetry.identity())
    return Correlations(groups, samples, tuple(g for g in symmetry.sizes if g not in groups))


def _has_constant(matrices: Matrices) -> bool:
    value = matrices.plain if matrices.flipping is None else matrices.plain.abs() + matrices.flipping.abs()
    return any(bool((value == 0).all(dim=side).any()) for side in (0, 1))
