"""What pictures of a landscape share: its figures as an array, and the levels of its colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from deepalign_cli.plots.axis import linear_ticks, log_ticks, tick_texts
from deepalign_cli.plots.text import clean

if TYPE_CHECKING:
    from deepalign_cli.measure.plane import Landscape

_APART = 20  # times: the highest loss over the lowest from which on levels are spaced by ratio
_LEAST = 1e-3  # of the values: a smaller range is one level
_LEVELS = 16


def losses_of(landscape: Landscape) -> Float64[ndarray, "ys xs"]:
    """The losses, NaN where they are not finite."""
    losses: Float64[ndarray, "ys xs"] = landscape.losses.numpy(force=True).astype(np.float64)
    return np.where(np.isfinite(losses), losses, np.nan)


def loss_name(landscape: Landscape, *, log: bool) -> str:
    """What the colours say."""
    name = "loss (log scale)" if log else "loss"
    return f"{name} on {clean(landscape.data)}" if landscape.data else name


def bar_ticks(levels: Sequence[float], *, log: bool) -> tuple[list[float], list[str]]:
    """The ticks of the colour bar and their texts."""
    if not levels:
        return [], []
    ticks = log_ticks(levels[0], levels[-1]) if log else linear_ticks(levels[0], levels[-1])
    return ticks, tick_texts(ticks, log=log)


def levels_of(losses: Float64[ndarray, "ys xs"]) -> tuple[list[float], bool]:
    """Rising levels around all finite losses ([] where none is), and whether they are spaced by ratio."""
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        return [], False
    low, high = float(finite.min()), float(finite.max())
    if low > 0 and high > _APART * low:
        return _inclusive(np.geomspace(low, high, _LEVELS), low, high), True
    room = max(_LEAST * max(abs(low), abs(high)), 1e-9) - (high - low)
    if room > 0:
        low, high = low - room / 2, high + room / 2
    return _inclusive(np.linspace(low, high, _LEVELS), low, high), False


def _inclusive(levels: Any, low: float, high: float) -> list[float]:
    return [low, *map(float, levels[1:-1]), high]  # the ends exactly, without rounding
