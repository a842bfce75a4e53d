"""Words and figures in pictures: names from outside made harmless, long ones shortened, numbers short."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from deepalign_cli.plots.axis import short
from deepalign_cli.plots.series import Series

ALPHA, CROSS = "\N{GREEK SMALL LETTER ALPHA}", "\N{MULTIPLICATION SIGN}"


def clean(text: str) -> str:
    r"""Return `text` on one line, with what is not printable written as `\n`, `\x1b`, `\udc80`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def ends_of(names: tuple[str, str] | None) -> tuple[str, str]:
    """What the two ends of a path are called: with the inputs' names, where there is one pair of them."""
    ends = ("A", "aligned B")
    if names is None:
        return ends
    return clean(f"{ends[0]}: {names[0]}"), clean(f"{ends[1]}: {names[1]}")


def elide(text: str, fits: Callable[[str], bool]) -> str:
    """The text, or as much of its two ends as fits, with an ellipsis between."""
    if fits(text):
        return text
    shortest, longest = 0, len(text) - 1
    while shortest < longest:
        keep = (shortest + longest + 1) // 2
        shortest, longest = (keep, longest) if fits(_cut(text, keep)) else (shortest, keep - 1)
    return _cut(text, shortest)


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """What tells names of data apart: `test` of `mnist.npz, test, 100 examples`, or else all of each."""
    columns = zip(*(name.split(", ") for name in names), strict=False)
    return next((column for column in columns if len(set(column)) == len(names)), tuple(names))


def number(value: float) -> str:
    """Three significant digits."""
    return short(f"{value:.0f}" if 1e3 <= abs(value) < 1e5 else f"{value:.3g}")


def barrier_text(series: Series) -> str:
    """The barrier named as one, or at how many places the loss is not finite."""
    return f"barrier {barrier_figure(series)}" if series.is_finite else barrier_figure(series)


def barrier_figure(series: Series) -> str:
    """The barrier and its spread over pairs, to the same place, or where the loss is not finite."""
    bad = [a for a, loss in zip(series.alphas, series.losses, strict=True) if not math.isfinite(loss)]
    if bad:
        where = f"{ALPHA} = {bad[0]:.3g}" if len(bad) == 1 else f"{len(bad)} of {len(series.alphas)} {ALPHA}"
        return f"{CROSS} loss not finite at {where}"
    mean, spread = series.barrier
    if series.pairs == 1:
        return number(mean)
    if not 1e-4 <= mean < 1e3:
        return f"{number(mean)} ± {number(spread)}"
    places = max(0, 2 - math.floor(math.log10(mean)))
    return f"{mean:.{places}f} ± {spread:.{places}f}"


def _cut(text: str, keep: int) -> str:
    """`keep` characters of it: the end tells files apart more often than the beginning."""
    tail = (keep + 1) // 2
    return text[: keep - tail] + "…" + text[len(text) - tail :]
