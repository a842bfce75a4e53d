"""How far long work has come: stages that share one bar, so that its percentage covers all of the work."""

from __future__ import annotations

import time
from collections.abc import Callable

Show = Callable[[float, str], None]  # the share of all the work that is done, and what is being done


class Progress:
    """A stage of some work; called with a step, it moves on by that much of its `total`.

    `part` carves a stage out of this one. A stage may take a whole share although it ends early: the next
    one begins where the share ends. The label of a stage with a `unit` also has its rate. Without `show`
    nothing is told to anybody.

    Example:
        >>> told = []
        >>> work = Progress(lambda share, label: told.append((share, label)))
        >>> align, write = work.part(0.8, "aligning", total=2), work.part(0.2, "writing")
        >>> align(1), write(1)
        (None, None)
        >>> [(round(share, 1), label) for share, label in told]
        [(0.0, 'aligning'), (0.8, 'writing'), (0.4, 'aligning'), (1.0, 'writing')]
    """

    def __init__(
        self, show: Show | None = None, label: str = "", total: float = 1.0, start: float = 0.0,
        share: float = 1.0, unit: str = "",
    ) -> None:  # fmt: skip
        self._show, self._label, self._total, self._unit = show, label, total, unit
        self._start, self._share = start, share
        self._done = 0.0  # of this stage, from 0 to 1
        self._began = time.perf_counter()

    def __call__(self, step: float = 1.0) -> None:
        """Move on by `step` of `total`."""
        self._done = min(1.0, self._done + step / self._total if self._total else 1.0)
        self._tell()

    def part(self, share: float, label: str = "", total: float = 1.0, unit: str = "") -> Progress:
        """The stage that takes the next `share` of this one, or what is left of it, and says `label`."""
        share = min(share, 1.0 - self._done)
        start = self._start + self._share * self._done
        stage = Progress(self._show, label or self._label, total, start, self._share * share, unit)
        self._done = min(1.0, self._done + share)
        if label:
            stage._tell()
        return stage

    def _tell(self) -> None:
        if self._show is not None:
            rate = self._done * self._total / max(time.perf_counter() - self._began, 1e-9)
            words = f"{self._label}, {quantity(rate, self._unit)}/s" if self._unit and rate else self._label
            self._show(self._start + self._share * self._done, words)


def quantity(value: float, unit: str = "") -> str:
    """Return `value` in a few characters: `12.3 MB`, `840 step`."""
    prefixes = ["", "k", "M", "G", "T"]
    while abs(value) >= 999.5 and len(prefixes) > 1:
        value /= 1000
        del prefixes[0]
    digits = f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"
    return f"{digits} {prefixes[0]}{unit}".rstrip()


def counted(number: int, noun: str) -> str:
    """`1 group`, `2 groups`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


SILENT = Progress()
