"""What a merge costs: loss and accuracy along the path from A to aligned B, and its summary figures.

With psi(l) = L(l) - [(1 - l) L(0) + l L(1)], the barrier is max(0, max psi) (Frankle et al. 2020; Entezari et
al. 2022) and the area is the integral of psi (Navon et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Curve:
    """Losses, and accuracies (0 to 1) where there are labels, at `alphas` from 0 (A) to 1 (aligned B).

    `seconds` is what finding the alignment took; `data` names what it was measured on.
    """

    method: str
    alphas: tuple[float, ...]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...] | None = None
    seconds: float = 0.0
    data: str = ""

    @property
    def excess(self) -> tuple[float, ...]:
        """psi: the loss above the straight line between the ends."""
        return _above_line(self.alphas, self.losses)

    @property
    def barrier(self) -> float:
        """The greatest excess, at least 0; NaN where a loss on the path is not finite."""
        return _barrier(self.alphas, self.losses)

    @property
    def peak(self) -> int:
        """The place of the greatest excess; of the first loss that is not finite where there is one."""
        bad = [i for i, loss in enumerate(self.losses) if not math.isfinite(loss)]
        return bad[0] if bad else max(range(len(self.alphas)), key=self.excess.__getitem__)

    @property
    def auc(self) -> float:
        """The integral of the excess by trapezia; a path below the line counts as negative."""
        return _integral(self.alphas, self.excess)

    @property
    def auc_clipped(self) -> float:
        """The same with nothing below the line."""
        return _integral(self.alphas, [max(0.0, e) if math.isfinite(e) else e for e in self.excess])

    @property
    def midpoint_loss(self) -> float:
        """The loss at the midpoint, interpolated where it is between two points."""
        return _midpoint(self.alphas, self.losses)

    @property
    def midpoint_accuracy(self) -> float | None:
        """The accuracy at the midpoint."""
        return None if self.accuracies is None else _midpoint(self.alphas, self.accuracies)

    @property
    def error_barrier(self) -> float | None:
        """The barrier of the error rate, from 0 to 1."""
        if self.accuracies is None:
            return None
        return _barrier(self.alphas, [1 - share for share in self.accuracies])

    @property
    def is_finite(self) -> bool:
        """Whether every loss is finite."""
        return all(map(math.isfinite, self.losses))


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the standard deviation over pairs (of a sample: n - 1); 0 for one."""
    mean = math.fsum(values) / len(values)
    square = math.fsum((v - mean) ** 2 for v in values)
    return mean, math.sqrt(square / (len(values) - 1)) if len(values) > 1 else 0.0


def _above_line(alphas: Sequence[float], values: Sequence[float]) -> tuple[float, ...]:
    first, last = values[0], values[-1]
    return tuple(v - ((1 - a) * first + a * last) for a, v in zip(alphas, values, strict=True))


def _barrier(alphas: Sequence[float], values: Sequence[float]) -> float:
    if not all(map(math.isfinite, values)):
        return math.nan
    return max(0.0, *_above_line(alphas, values))


def _integral(alphas: Sequence[float], values: Sequence[float]) -> float:
    steps = zip(pairwise(alphas), pairwise(values), strict=True)
    return math.fsum((b - a) * (x + y) / 2 for (a, b), (x, y) in steps)


def _midpoint(alphas: Sequence[float], values: Sequence[float]) -> float:
    for (a, b), (x, y) in zip(pairwise(alphas), pairwise(values), strict=True):
        if a <= 0.5 <= b:
            return x if a == 0.5 else y if b == 0.5 else x + (y - x) * (0.5 - a) / (b - a)
    raise ValueError("no two alphas enclose one half")
