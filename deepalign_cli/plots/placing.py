"""Where a label goes: as near as can be to what it names, on nothing else, inside the frame.

All places are in pixels. Every place in the frame is tried; what a box covers is read off a summed-area
table (Crow 1984).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from numpy import ndarray

_CELL = 2.0  # pixels
_PAD = 8.0  # pixels free around a label
_COVERS = 1e4  # pixels of distance that one covered cell costs


Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A rectangle; `y` grows either way."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2


def along(start: Point, end: Point) -> list[Point]:
    """Places on a bracket for its label, the middle first."""
    (x, low), (_, high) = start, end
    return [(x, low + (high - low) * share) for share in (0.5, 0.6, 0.4, 0.75, 0.25, 0.9, 0.1)]


class Placer:
    """Places labels one after another; none covers an earlier one."""

    def __init__(self, frame: Box) -> None:
        self.frame = frame
        size = (frame.y1 - frame.y0, frame.x1 - frame.x0)
        self._taken = np.zeros([max(1, int(s / _CELL)) for s in size])

    def add_line(self, line: Sequence[Point]) -> None:
        """A polyline that no label covers; it breaks at what is not finite."""
        places = np.asarray(line, dtype=float).reshape(-1, 2)
        for a, b in pairwise(places):
            if np.isfinite([a, b]).all():
                count = int(np.hypot(*(b - a)) / _CELL) + 2
                for x, y in np.linspace(a, b, count):
                    self.add_box(Box(x, y, x, y))

    def add_box(self, box: Box) -> None:
        """A rectangle that no label covers; one without extent is a point."""
        rows, columns = self._taken.shape
        x0, x1 = (int((x - self.frame.x0) // _CELL) for x in (box.x0, box.x1))
        y0, y1 = (int((y - self.frame.y0) // _CELL) for y in (box.y0, box.y1))
        if x1 >= 0 and y1 >= 0 and x0 < columns and y0 < rows:
            self._taken[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1] += 1

    def place(self, width: float, height: float, anchor: Sequence[Point]) -> Box:
        """A free box near to the `anchor`'s points, the first preferred; where none is, the least bad."""
        rows, columns = self._taken.shape
        h = min(rows, int((height + 2 * _PAD) / _CELL) + 1)
        w = min(columns, int((width + 2 * _PAD) / _CELL) + 1)
        table = np.pad(self._taken, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        covered = table[h:, w:] - table[:-h, w:] - table[h:, :-w] + table[:-h, :-w]
        ys = self.frame.y0 + (np.arange(covered.shape[0]) + h / 2) * _CELL
        xs = self.frame.x0 + (np.arange(covered.shape[1]) + w / 2) * _CELL
        cost = _COVERS * covered + _distance(xs, ys, (width / 2, height / 2), anchor)
        i, j = np.unravel_index(int(cost.argmin()), cost.shape)
        x, y = float(xs[j]), float(ys[i])
        box = Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        self.add_box(box)
        return box


def _distance(
    xs: Float[ndarray, " columns"], ys: Float[ndarray, " rows"], half: Point,
    anchor: Sequence[Point],
) -> Float[ndarray, "rows columns"]:  # fmt: skip
    """From boxes with these centres to the nearest point of the anchor, later points counting as farther."""
    distances = []
    for rank, (x, y) in enumerate(anchor):
        dx, dy = np.maximum(np.abs(xs - x) - half[0], 0), np.maximum(np.abs(ys - y) - half[1], 0)
        distances.append(np.hypot(dx, dy[:, None]) + rank)
    centred = np.hypot(xs - anchor[0][0], (ys - anchor[0][1])[:, None])
    nearest: Float[ndarray, "rows columns"] = np.min(distances, axis=0) + 0.02 * centred
    return nearest
