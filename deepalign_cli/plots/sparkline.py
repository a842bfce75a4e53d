"""A curve in one line of text, for tables."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-~=+*#"
_BRAILLE = "\N{BRAILLE PATTERN DOTS-12345678}"  # in no encoding but Unicode's, unlike the blocks


def sparkline(values: Sequence[float], *, encoding: str | None = "utf-8", low: float | None = None,
              high: float | None = None, width: int = sys.maxsize) -> str:  # fmt: skip
    """One character a value, from the lowest to the highest; `!` for a value that is not finite.

    Of more values than `width`, a character stands for the highest of its share.

    `low` and `high` set the range, so that the lines of several methods compare. A stream whose `encoding`
    has no blocks gets ASCII. Values that are all equal are lowest.
    """
    marks = _BLOCKS if has_blocks(encoding) else _ASCII
    finite = [v for v in values if math.isfinite(v)]
    low = min(finite, default=0.0) if low is None else low
    high = max(finite, default=0.0) if high is None else high
    return "".join(_mark(v, low, high, marks) for v in _peaks(values, min(width, len(values))))


def _peaks(values: Sequence[float], count: int) -> Iterator[float]:
    """The highest of each of `count` shares of the values; what is not finite where there is any."""
    for place in range(count):
        share = values[place * len(values) // count : (place + 1) * len(values) // count]
        yield max(share) if all(map(math.isfinite, share)) else math.nan


def _mark(value: float, low: float, high: float, marks: str) -> str:
    if not math.isfinite(value):
        return "!"
    share = (value / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.0  # halves cannot overflow
    return marks[round(min(1.0, max(0.0, share)) * (len(marks) - 1))]


def has_blocks(encoding: str | None) -> bool:
    """Whether a stream of this encoding can show more than ASCII."""
    try:
        (_BLOCKS + _BRAILLE).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
