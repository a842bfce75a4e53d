"""A loss landscape as a picture: contours, the three networks and the straight merges between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy import isfinite

from deepalign_cli.errors import UsageError
from deepalign_cli.plots.axis import linear_ticks, tick_texts
from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.plots.grid import bar_ticks, levels_of, loss_name, losses_of
from deepalign_cli.plots.placing import Box, Placer
from deepalign_cli.plots.sheet import (
    DPI,
    LARGE,
    SMALL,
    TEXT,
    Sheet,
    label,
    line_height,
    pixels_of,
    ticks_style,
)
from deepalign_cli.plots.style import SOFT
from deepalign_cli.plots.text import clean

if TYPE_CHECKING:
    from deepalign_cli.measure.plane import Landscape

_LONGEST, _SHORTEST = (5.6, 5.2), 1.6  # inches of the axes: the most in width and height, the least
_LEAST, _TALLEST = 1.0, 1.6  # where the width is given: inches; times the width
_EDGE, _BAR, _BAR_GAP = 0.18, 0.2, 0.25
_MAP = "viridis"  # perceptually uniform, and readable by the colour-blind and in grey
_DOT, _ROOM = 8.0, 0.45  # points; of the axes' width, the most that a label takes

DISTANCE = "distance in weight space"


def draw_landscape(landscape: Landscape, title: str, how: Drawing = PLAIN) -> Sheet:
    """The picture; made and rendered within `matplotlib_style`.

    Raises:
        UsageError: it is to be too narrow.
    """
    sheet = Sheet()
    losses = losses_of(landscape)
    levels, log = levels_of(losses)
    note = "" if isfinite(losses).all() else "hatched: the loss is not finite"
    bar = bar_ticks(levels, log=log)
    x_ticks, y_ticks = (linear_ticks(v[0], v[-1]) for v in (landscape.xs, landscape.ys))
    left = _EDGE + line_height(TEXT) + max(sheet.measure(t, SMALL) for t in tick_texts(y_ticks)) + 0.12
    top = _EDGE + (line_height(LARGE) + 0.1 if title else 0.08)
    right = _BAR_GAP + _BAR + 0.12 + max((sheet.measure(t, SMALL) for t in bar[1]), default=0.0) + 0.3
    below = 0.12 + line_height(SMALL) + line_height(TEXT) + _EDGE + (line_height(SMALL) if note else 0.0)
    width, height = _extent(landscape, how.width and how.width - left - right - _EDGE)
    sheet.resize(how.width or left + width + right + _EDGE, top + height + below)
    axes = sheet.axes(left, top, width, height)
    axes.set_xticks(x_ticks, tick_texts(x_ticks), fontsize=SMALL)
    axes.set_yticks(y_ticks, tick_texts(y_ticks), fontsize=SMALL)
    ticks_style(axes)
    _fill(axes, landscape, losses, levels, log=log)
    _networks(sheet, axes, landscape)
    _write(sheet, (left, top, width, height), title)
    if levels:
        colours = sheet.axes(left + width + _BAR_GAP, top, _BAR, height)
        _bar(colours, levels, bar, log=log)
        name = sheet.fit(loss_name(landscape, log=log), height, TEXT)
        sheet.write(sheet.width - _EDGE, top + height / 2, name, va="center", ha="right", rotation=90)
    if note:
        sheet.write(left, sheet.height - _EDGE - SMALL / 72, note, SMALL, colour=SOFT)
    return sheet


def _extent(landscape: Landscape, width: float | None) -> tuple[float, float]:
    """Width and height of the axes in inches: both axes in the same units, where that is not too thin."""
    across, along = (v[-1] - v[0] for v in (landscape.xs, landscape.ys))
    if width is not None:
        if width < _LEAST:
            raise UsageError("the picture is too narrow for its axes.", f"add {_LEAST - width:.1f} inches.")
        return width, min(max(_LEAST, along / across * width), _TALLEST * width)
    scale = min(_LONGEST[0] / across, _LONGEST[1] / along)
    return max(_SHORTEST, across * scale), max(_SHORTEST, along * scale)


def _fill(axes: Any, landscape: Landscape, losses: Any, levels: list[float], *, log: bool) -> None:
    """Contours over hatching, which stays where the loss is not finite."""
    xs, ys = landscape.xs, landscape.ys
    axes.set_xlim(xs[0], xs[-1])
    axes.set_ylim(ys[0], ys[-1])
    axes.set_facecolor("#f2f2f2")
    whole = {"facecolor": "none", "edgecolor": "#9a9a9a", "hatch": "////", "linewidth": 0}
    axes.fill_between([xs[0], xs[-1]], ys[0], ys[-1], **whole)
    if levels:
        axes.contourf(xs, ys, losses, levels, cmap=_MAP, norm="log" if log else None)
        lines = {"colors": "white", "linewidths": 0.5, "alpha": 0.45, "linestyles": "solid"}
        axes.contour(xs, ys, losses, levels[1:-1], **lines)


def _networks(sheet: Sheet, axes: Any, landscape: Landscape) -> None:
    """Paths and dots, and labels that touch none of them."""
    box = axes.get_window_extent()
    placer = Placer(Box(box.x0 + 4, box.y0 + 4, box.x1 - 4, box.y1 - 4))
    for path in landscape.paths:
        ends = [landscape.places[name] for name in path]
        for colour, width in (("black", 3.6), ("white", 1.8)):
            xs, ys = zip(*ends, strict=True)
            axes.plot(xs, ys, color=colour, linewidth=width, solid_capstyle="round", zorder=4)
        placer.add_line(pixels_of(axes, ends))
    places = pixels_of(axes, list(landscape.places.values()))
    reach = _DOT / 72 * DPI / 2 + 2
    for (x, y), place in zip(places, landscape.places.values(), strict=True):
        axes.plot(*place, "o", color="white", markeredgecolor="black", markeredgewidth=1.4, ms=_DOT, zorder=5)
        placer.add_box(Box(x - reach, y - reach, x + reach, y + reach))
    for place, name in zip(places, landscape.places, strict=True):
        text = sheet.fit(clean(name), (box.x1 - box.x0) / DPI * _ROOM, SMALL, bold=True)
        width, height = sheet.measure(text, SMALL, bold=True) * DPI + 14, SMALL / 72 * DPI + 12
        background = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": "none", "alpha": 0.88}
        label(axes, placer.place(width, height, [place]), text, zorder=6, bbox=background)


def _write(sheet: Sheet, axes: tuple[float, float, float, float], title: str) -> None:
    left, top, width, height = axes
    if title:
        room = sheet.width - left - _EDGE
        sheet.write(left, _EDGE, sheet.fit(title, room, LARGE, bold=True), LARGE, bold=True)
    x_name, y_name = sheet.fit(DISTANCE, width), sheet.fit(DISTANCE, height)
    sheet.write(left + width / 2, top + height + 0.1 + line_height(SMALL), x_name, ha="center")
    sheet.write(_EDGE, top + height / 2, y_name, va="center", rotation=90)


def _bar(axes: Any, levels: list[float], ticks: tuple[list[float], list[str]], *, log: bool) -> None:
    """The colours of the levels, from the lowest to the highest."""
    axes.set_yscale("log" if log else "linear")
    axes.contourf([0, 1], levels, [[v, v] for v in levels], levels, cmap=_MAP, norm="log" if log else None)
    axes.set_ylim(levels[0], levels[-1])
    axes.minorticks_off()
    axes.set_xticks([])
    axes.set_yticks(*ticks, fontsize=SMALL)
    axes.yaxis.tick_right()
    ticks_style(axes)
