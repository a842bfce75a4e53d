"""The loss axis: its range, linear or logarithmic, and its ticks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from deepalign_cli.plots.series import Panel

_APART = 20  # times: the highest peak over the lowest from which on a linear axis would flatten the lowest
_LEAST = 0.01  # of the values: a smaller range is drawn as the flat line that it is
_PAD = 0.07  # of the range, above and below
_LABEL = 0.06  # of the range, below the losses: there the label of a small barrier finds room


@dataclass(frozen=True)
class Scale:
    """From `low` to `high`, both finite; positive where `log`."""

    low: float
    high: float
    log: bool = False
    empty: bool = False  # nothing finite: no figures

    @property
    def label(self) -> str:
        return "loss (log scale)" if self.log else "loss"

    @property
    def ticks(self) -> list[float]:
        if self.empty:
            return []
        return log_ticks(self.low, self.high) if self.log else linear_ticks(self.low, self.high)

    def value(self, place: float) -> float:
        """What lies at a place; the inverse of `place`."""
        if self.log:
            return math.exp(math.log(self.low) + math.log(self.high / self.low) * place)
        return self.low + (self.high - self.low) * place

    def place(self, value: float) -> float:
        """Where a value lies: 0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def loss_scale(panels: Sequence[Panel]) -> Scale:
    """One for all panels, so that they compare; logarithmic where one method would hide another's barrier."""
    series = [s for panel in panels for s in panel.series]
    means = [[v for v in s.losses if math.isfinite(v)] for s in series]
    finite = [v for values in means for v in values]
    if not finite:
        return Scale(0.0, 1.0, empty=True)
    peaks = [max(values) for values in means if values]
    log = min(finite) > 0 and max(peaks) > _APART * min(peaks)
    edges = [m + d for s in series for m, d in zip(s.losses, s.spread, strict=True) if math.isfinite(m + d)]
    if log:
        return _padded_log(min(finite), max(finite + edges))
    lows = [m - d for s in series for m, d in zip(s.losses, s.spread, strict=True) if math.isfinite(m - d)]
    scale = padded(min(finite + lows), max(finite + edges))
    return replace(scale, low=scale.low - _LABEL * (scale.high - scale.low))


def padded(low: float, high: float, least: float | None = None) -> Scale:
    """A linear scale with some room above and below, no shorter than `least`."""
    least = _LEAST * max(abs(low), abs(high)) if least is None else least
    room = max(high - low, least) or 1.0
    middle = low / 2 + high / 2
    return Scale(middle - room * (0.5 + _PAD), middle + room * (0.5 + _PAD))


def linear_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within the range."""
    step = _nice((high - low) / about)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 times them where there are few, and not all where there are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / 8))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [f * 10.0**p for p in range(first - first % stride, last + 1, stride) for f in factors]
    return [t for t in ticks if low <= t <= high]


def tick_texts(ticks: Sequence[float], *, percent: bool = False, log: bool = False) -> list[str]:
    """As many decimals as tell them apart; powers of ten where that would be long."""
    values = [100 * t for t in ticks] if percent else list(ticks)
    if log:
        texts = [f"{v:.3g}" if v < 1e3 or v >= 1e5 else f"{v:.0f}" for v in values]
    else:
        texts = _even(values)
    return [("0" if v == 0 else short(t)) + "%" * percent for t, v in zip(texts, values, strict=True)]


def short(text: str) -> str:
    """A figure without the zeros of its exponent, with a true minus sign."""
    mantissa, e, power = text.partition("e")
    return (mantissa + (f"e{int(power)}" if e else "")).replace("-", "\N{MINUS SIGN}")


def _even(values: Sequence[float]) -> list[str]:
    """All with the same number of decimals."""
    largest = max(map(abs, values), default=0.0) or 1.0
    step = min((abs(b - a) for a, b in pairwise(values)), default=largest) or largest
    power = math.floor(math.log10(step) + 1e-9)
    if largest >= 1e5 or power < -5:
        digits = max(0, math.floor(math.log10(largest)) - power)
        return [f"{v:.{digits}e}" for v in values]
    return [f"{v:.{max(0, -power)}f}" for v in values]


def _padded_log(low: float, high: float) -> Scale:
    room = (high / low) ** _PAD
    return Scale(low / room * (high / low) ** -_LABEL, high * room, log=True)


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 5, 10) if f * power >= step * (1 - 1e-9))
