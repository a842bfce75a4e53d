"""Barrier curves in a terminal, by plotext: no background, no colour needed, readable from 40 columns on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.cells import cell_len

from deepalign_cli.extras import require
from deepalign_cli.measure.curve import Curve
from deepalign_cli.plots.axis import Scale, loss_scale, tick_texts
from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.plots.series import Panel, Series, methods_of, panels_of
from deepalign_cli.plots.style import Look, looks_of
from deepalign_cli.plots.text import ALPHA, CROSS, barrier_text, clean, elide, ends_of

_LEAST = (24, 8)  # columns and lines
_X_TICKS = {0.0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1.0: "1"}
_ASCII = str.maketrans({
    "─": "-", "│": "|", "┌": "+", "┐": "+", "└": "+", "┘": "+", "├": "+", "┤": "+", "┬": "+", "┴": "+",
    "┼": "+", "━": "-", "±": "+-", "…": "..", CROSS: "!", "\N{MINUS SIGN}": "-", ALPHA: "alpha",
})  # fmt: skip


def terminal_plot(
    curves: Sequence[Curve], width: int = 80, height: int = 20, colour: bool = True,
    *, names: tuple[str, str] | None = None, unicode: bool = True, drawing: Drawing = PLAIN,
) -> str:  # fmt: skip
    """The losses as lines of text, one plot of `height` lines a data set, and what they cost below.

    Without `colour` there are no escape codes; without `unicode` there is nothing but ASCII.

    Raises:
        MissingExtra: plotext is not installed. UsageError: a label of `drawing` names nothing.
    """
    plotext = require("plotext", "plot", "a plot in the terminal")
    drawing.check_labels(curve.method for curve in curves)
    panels = panels_of(curves)
    looks = looks_of(methods_of(panels))
    width, height = max(width, _LEAST[0]), max(height, _LEAST[1])
    scale = loss_scale(panels)
    lines: list[str] = []
    for panel in panels:
        heading = scale.label + (f" on {clean(panel.data)}" if panel.data else "")
        lines.append(_fit(heading, width))
        lines += _plot(plotext, panel, looks, scale, (width, height), colour=colour, unicode=unicode)
        lines += _ends(ends_of(names), width)
        lines += _legend(panel, looks, width, drawing, colour=colour, unicode=unicode)
        lines.append("")
    text = "\n".join(line.rstrip() for line in lines[:-1]) + "\n"
    return text if unicode else text.translate(_ASCII).encode("ascii", "backslashreplace").decode()


def _plot(plotext: Any, panel: Panel, looks: dict[str, Look], scale: Scale, size: tuple[int, int],
          *, colour: bool, unicode: bool) -> list[str]:  # fmt: skip
    """The axes with all lines; plotext has one figure for the whole process, left empty."""
    figure = plotext.figure
    plotext.terminal.limit(False, False)  # the width is the caller's; off a terminal there is none to ask
    figure.clear()
    try:
        figure.theme("simple")
        figure.plot_size(*size)
        ticks = scale.ticks
        figure.ruler("y").lim(0, 1)
        figure.ruler("y").ticks([scale.place(t) for t in ticks], tick_texts(ticks, log=scale.log))
        figure.ruler("x").lim(0, 1)
        figure.ruler("x").ticks(list(_X_TICKS), list(_X_TICKS.values()))
        for place, series in enumerate(panel.series):
            _draw(plotext, series, looks[series.method], scale, place, unicode=unicode)
        built = str(figure.build().string(colorless=not colour))
    finally:
        plotext.terminal.limit()
        figure.clear()
    return built.rstrip("\n").split("\n")


def _draw(plotext: Any, series: Series, look: Look, scale: Scale, place: int, *, unicode: bool) -> None:
    """One method: its line, its sign here and there along it, a cross at the top where there is no figure."""
    figure, points = plotext.figure, list(zip(series.alphas, series.losses, strict=True))
    for finite, run in groupby(points, key=lambda point: math.isfinite(point[1])):
        part = list(run)
        xs = [a for a, _ in part]
        ys = [scale.place(loss) if finite else 1.0 for _, loss in part]
        if unicode:
            symbol = "braille" if finite else CROSS
        else:
            symbol = look.letter if finite else "!"
        line = figure.signal(xs, ys, marker=plotext.marker(symbol, look.ansi))
        line.lines(finite)
        figure.draw(line)
    every = max(1, len(points) // 6)
    marked = [(a, scale.place(v)) for a, v in points[place % every :: every] if math.isfinite(v)]
    if unicode and marked:
        xs, ys = map(list, zip(*marked, strict=True))
        figure.draw(figure.signal(xs, ys, marker=plotext.marker(look.sign, look.ansi)))


def _ends(ends: tuple[str, str], width: int) -> list[str]:
    a, b = ends
    space = width - cell_len(a) - cell_len(b)
    if space >= 3:
        return [a + " " * space + b]
    a, b = _fit(a, width), _fit(b, width)
    return [a, " " * (width - cell_len(b)) + b]


def _legend(panel: Panel, looks: dict[str, Look], width: int, drawing: Drawing, *, colour: bool,
            unicode: bool) -> list[str]:  # fmt: skip
    """Every method's sign, name and barrier: in columns, or one below the other where those are too wide."""
    names = [clean(drawing.label(s.method)) for s in panel.series]
    costs = [barrier_text(s) for s in panel.series]
    column = max(map(cell_len, names))
    beside = 4 + column + 2 + max(map(cell_len, costs)) <= width
    lines = []
    for name, cost, series in zip(names, costs, panel.series, strict=True):
        look = looks[series.method]
        key = f"━{look.sign}━" if unicode else f"-{look.letter}-"
        key = f"\x1b[38;5;{look.ansi}m{key}\x1b[0m" if colour else key
        if beside:
            lines.append(f"{key} {name}{' ' * (column - cell_len(name))}  {cost}")
        else:
            lines += [f"{key} {_fit(name, width - 4)}", f"    {_fit(cost, width - 4)}"]
    return lines


def _fit(text: str, width: int) -> str:
    return elide(text, lambda t: cell_len(t) <= width)
