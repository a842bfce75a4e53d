"""The loss on the plane through three networks (Garipov et al. 2018; Goodfellow et al. 2015)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from deepalign_cli.data.dataset import Data
from deepalign_cli.errors import MismatchError
from deepalign_cli.measure.losses import Loss
from deepalign_cli.measure.paths import Tally, tally
from deepalign_cli.models.run import Run
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import is_trained, widened

_MARGIN = 0.25  # of the plane's extent, around the networks
_FLAT = 1e-6  # of the longest side: three networks nearer to a line span no plane

Settle = Callable[[dict[str, Tensor]], Weights]


@dataclass(frozen=True)
class Landscape:
    """Losses on a grid: `losses[i, j]` at (xs[j], ys[i]), both in units of weight distance.

    `places` are the three networks by their labels (the first at the origin, the second on the x axis);
    `paths` are pairs of labels that straight merges run between. A loss may be NaN or Inf.
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    losses: Float64[Tensor, "ys xs"]
    places: dict[str, tuple[float, float]]
    paths: tuple[tuple[str, str], ...]
    accuracies: Float64[Tensor, "ys xs"] | None = None
    data: str = ""


@dataclass(frozen=True)
class Plane:
    """The plane through three networks: the second is at (`side`, 0), the third at `apex`."""

    corners: tuple[Weights, Weights, Weights]
    side: float
    apex: tuple[float, float]

    @classmethod
    def through(cls, a: Weights, b: Weights, c: Weights) -> Plane:
        """The plane, in units of weight distance over all trained tensors.

        Raises:
            MismatchError: the three lie on one line.
        """
        bb, bc, cc = _products(a, b, c)
        side = math.sqrt(bb)
        x = bc / side if side else 0.0
        y = math.sqrt(max(0.0, cc - x * x))
        if min(side, y) <= _FLAT * max(side, math.sqrt(cc)):
            raise MismatchError(
                "the three networks lie on one line, which spans no plane.",
                "give a third network, or one that alignment moves.",
            )
        return cls((a, b, c), side, (x, y))

    def weights(self, x: float, y: float) -> dict[str, Tensor]:
        """The network at a point; integers are the first's."""
        third = y / self.apex[1]
        second = (x - third * self.apex[0]) / self.side
        a, b, c = self.corners
        network = dict(a)
        for name, w in a.items():
            if w.is_floating_point():
                first, u, v = (widened(corner[name]) for corner in (a, b, c))
                network[name] = first + second * (u - first) + third * (v - first)
        return network

    def grid(self, points: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The places along both axes, `points` along the longer one, equally far apart along both."""
        left, right = min(0.0, self.apex[0]), max(self.side, self.apex[0])
        margin = _MARGIN * max(right - left, self.apex[1])
        spans = right - left + 2 * margin, self.apex[1] + 2 * margin
        step = max(spans) / (points - 1)
        starts = left - margin, -margin
        xs, ys = (
            tuple(start + step * i for i in range(round(span / step) + 1))
            for start, span in zip(starts, spans, strict=True)
        )
        return xs, ys


@torch.no_grad()
def measure_landscape(
    run: Run, plane: Plane, labels: tuple[str, str, str], data: Data, loss: Loss, points: int,
    *, paths: Sequence[tuple[str, str]] = (), settle: Settle = lambda w: w, batch_size: int = 1000,
    progress: Progress = SILENT,
) -> Landscape:  # fmt: skip
    """The losses on a grid around the three networks; `settle` repairs each before it is run."""
    batches = list(data.batches(batch_size))
    xs, ys = plane.grid(points)
    losses = torch.zeros(len(ys), len(xs), dtype=torch.float64)
    shares = torch.zeros_like(losses)
    known = True
    for i, y in enumerate(ys):
        for j, x in enumerate(xs):
            total = Tally()
            tally(run, settle(plane.weights(x, y)), batches, loss, total)
            losses[i, j] = total.mean
            known = known and total.accuracy is not None
            shares[i, j] = total.accuracy or 0.0
            progress(1 / len(xs) / len(ys))
    places = dict(zip(labels, ((0.0, 0.0), (plane.side, 0.0), plane.apex), strict=True))
    return Landscape(xs, ys, losses, places, tuple(paths), shares if known else None, data.name)


def _products(a: Weights, b: Weights, c: Weights) -> tuple[float, float, float]:
    """The inner products of B - A and C - A: of the first with itself, of both, of the second with itself."""
    bb = bc = cc = 0.0
    for name, w in a.items():
        if is_trained(name, w):
            first = widened(w).double()
            u, v = (widened(other[name]).double() - first for other in (b, c))
            bb, bc, cc = bb + float((u * u).sum()), bc + float((u * v).sum()), cc + float((v * v).sum())
    return bb, bc, cc
