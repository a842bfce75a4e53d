"""What a picture of curves shows: one panel a data set, one series a method, pairs averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deepalign_cli.measure.curve import Curve, mean_and_spread

NAIVE, DEFAULT = "none", "deepalign"


@dataclass(frozen=True)
class Series:
    """One method on one data set: means over `pairs` curves and their standard deviations.

    `peak` is the place of the greatest mean excess; `barrier` is the mean and the standard deviation of the
    pairs' own barriers, NaN where a loss is not finite. Values that are not finite are NaN.
    """

    method: str
    alphas: tuple[float, ...]
    losses: tuple[float, ...]
    spread: tuple[float, ...]
    accuracies: tuple[float, ...] | None
    accuracy_spread: tuple[float, ...]
    barrier: tuple[float, float]
    peak: int
    pairs: int

    @property
    def is_naive(self) -> bool:
        """Whether nothing was aligned, repaired or not."""
        return base(self.method) == NAIVE

    @property
    def is_finite(self) -> bool:
        """Whether every loss is a number."""
        return all(map(math.isfinite, self.losses))

    @property
    def chord(self) -> tuple[float, ...]:
        """The straight line between the ends."""
        first, last = self.losses[0], self.losses[-1]
        return tuple((1 - a) * first + a * last for a in self.alphas)


@dataclass(frozen=True)
class Panel:
    """All methods on one data set, what is naive first."""

    data: str
    series: tuple[Series, ...]

    def annotated(self, main: str | None) -> list[Series]:
        """Those whose barrier is drawn, where there is one: what is naive, and the main method."""
        return [s for s in self.series if s.method in (NAIVE, main) and s.is_finite and s.barrier[0] > 0]


def main_method(panels: Sequence[Panel]) -> str | None:
    """The method that the picture is about: of the aligned, that of the lowest barrier on average."""
    barriers: dict[str, list[float]] = {}
    for s in (s for panel in panels for s in panel.series if not s.is_naive and s.is_finite):
        barriers.setdefault(s.method, []).append(s.barrier[0])
    means = {method: mean_and_spread(values)[0] for method, values in barriers.items()}
    return min(means, key=lambda m: (means[m], m != DEFAULT), default=None)


def panels_of(curves: Sequence[Curve]) -> tuple[Panel, ...]:
    """Curves of one method on one data set are different pairs; the order is that of first appearance.

    Raises:
        ValueError: no curves, or pairs measured at different alphas.
    """
    if not curves:
        raise ValueError("there are no curves to draw")
    groups: dict[str, dict[str, list[Curve]]] = {}
    for curve in curves:
        groups.setdefault(curve.data, {}).setdefault(curve.method, []).append(curve)
    return tuple(
        Panel(data, tuple(sorted(map(_series, of.values()), key=lambda s: not s.is_naive)))
        for data, of in groups.items()
    )


def methods_of(panels: Sequence[Panel]) -> list[str]:
    """Every method once, in order."""
    return list(dict.fromkeys(s.method for panel in panels for s in panel.series))


def base(method: str) -> str:
    """The method without what follows it: `deepalign` of `deepalign + repair`."""
    return next(iter(method.replace(",", " ").replace("+", " ").split()), method)


def label_of(method: str) -> str:
    """What a method is called in pictures: what is not aligned is naive."""
    return "naive" + method.strip()[len(NAIVE) :] if base(method) == NAIVE else method


def _series(curves: list[Curve]) -> Series:
    first = curves[0]
    if any(c.alphas != first.alphas for c in curves):
        raise ValueError(f"the curves of {first.method} are at different alphas")
    losses, spread = _averaged([c.losses for c in curves])
    shares = [c.accuracies for c in curves if c.accuracies is not None]
    accuracies, accuracy_spread = _averaged(shares) if len(shares) == len(curves) else (None, ())
    barrier, mean = mean_and_spread([c.barrier for c in curves]), Curve(first.method, first.alphas, losses)
    return Series(
        first.method, first.alphas, losses, spread, accuracies, accuracy_spread, barrier, mean.peak,
        pairs=len(curves),
    )  # fmt: skip


def _averaged(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and spread at every place; NaN where one is not finite."""
    pairs = [
        mean_and_spread(column) if all(map(math.isfinite, column)) else (math.nan, math.nan)
        for column in zip(*rows, strict=True)
    ]
    return tuple(m for m, _ in pairs), tuple(s for _, s in pairs)
