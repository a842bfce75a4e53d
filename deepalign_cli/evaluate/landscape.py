"""The loss on the plane through three networks (Garipov et al. 2018, section 3; Goodfellow et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor


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
