"""Barrier curves as a picture: loss from A to aligned B for every method, accuracy below, by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from deepalign_cli.errors import UsageError
from deepalign_cli.plots.axis import Scale, loss_scale, padded, tick_texts
from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.plots.placing import Box, Placer, along
from deepalign_cli.plots.series import NAIVE, Panel, Series, main_method, methods_of
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
from deepalign_cli.plots.style import FAINT, SOFT, Look, looks_of
from deepalign_cli.plots.text import ALPHA, barrier_text, clean, number, told_apart

_LOSS_HEIGHT, _ACCURACY_HEIGHT, _GAP = 3.1, 1.35, 0.22  # inches
_WIDTHS = {1: 5.4, 2: 4.3}  # of a panel, by their number
_NARROW = 3.6
_EDGE, _LEGEND, _KEY = 0.18, 2.4, 0.42  # margin; the legend's widest text; its piece of line
_SPACE, _LEAST = 0.3, (2.3, 1.3)  # right of a panel; its least width, with the legend beside and without
_SHARES = 0.02  # the least range of accuracies
_MARKS = 8  # markers along a line, about

X_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
X_TEXTS = ("0", "0.25", "0.5", "0.75", "1")
X_LABEL = f"{ALPHA}, the share of aligned B"


def draw_curves(panels: Sequence[Panel], ends: tuple[str, str], title: str, how: Drawing = PLAIN) -> Sheet:
    """The picture; made and rendered within `matplotlib_style`. `ends` label the two ends of the paths.

    Raises:
        UsageError: it is to be too narrow.
    """
    sheet = Sheet()
    drawing = _Drawing(sheet, panels, ends, title, how)
    drawing.lay_out()
    for i, panel in enumerate(panels):
        drawing.draw_panel(i, panel)
    drawing.draw_legend()
    return sheet


class _Drawing:
    """The measures of one picture, from which everything is placed."""

    def __init__(
        self, sheet: Sheet, panels: Sequence[Panel], ends: tuple[str, str], title: str, how: Drawing
    ) -> None:
        self.sheet, self.panels, self.ends, self.title, self.how = sheet, panels, ends, title, how
        self.looks = looks_of(methods_of(panels))
        self.main = main_method(panels)
        self.loss = loss_scale(panels)
        self.share = share_scale(panels)
        self.width = _WIDTHS.get(len(panels), _NARROW)
        self.height, self.longest = _LOSS_HEIGHT, _LEGEND
        self.legend = _legend_entries(panels)

    def lay_out(self) -> None:
        """Measure what stands around the axes, and give the sheet its size."""
        shares = tick_texts(self.share.ticks, percent=True) if self.share else []
        texts = tick_texts(self.loss.ticks, log=self.loss.log) + shares
        numbers = max((self.sheet.measure(t, SMALL) for t in texts), default=0.0)
        self.left = _EDGE + line_height(TEXT) + numbers + 0.14
        beside = self.how.width is None or self._squeeze(self.how.width)
        self.rows = self._end_rows()
        heads = any(p.data for p in self.panels)
        self.top = _EDGE + (line_height(LARGE) + 0.1 if self.title else 0.0) + heads * line_height(TEXT)
        axes = self.height + (_GAP + _ACCURACY_HEIGHT if self.share else 0.0)
        below = 0.1 + line_height(SMALL) * (1 + len(self.rows)) + line_height(TEXT) + _EDGE
        lines = sum(len(small) for _, small in self.legend)
        legend = len(self.legend) * (line_height(TEXT) + 0.1) + lines * line_height(SMALL)
        self.legend_x, self.legend_y = self.left + len(self.panels) * (self.width + _SPACE), self.top
        if not beside:
            self.legend_x, self.legend_y = self.left, self.top + axes + below
        height = max(self.top + axes + below, self.legend_y + legend + _EDGE)
        width = self.how.width or self.legend_x + _KEY + self._legend_width() + _EDGE
        self.sheet.resize(width, height)

    def _squeeze(self, width: float) -> bool:
        """Fit the axes into a picture of a width; whether there is room for the legend beside them."""
        count, usual = len(self.panels), self.width
        room = width - self.left - _EDGE
        self.width = (room - _KEY - self._legend_width()) / count - _SPACE
        beside = self.width >= _LEAST[0]
        if not beside:
            self.width = (room + _EDGE) / count - _SPACE
            self.longest = min(_LEGEND, room - _KEY)
        if self.width < _LEAST[1]:
            least = self.left + count * (_LEAST[1] + _SPACE)
            raise UsageError(f"{width:g} inches are too narrow for the curves.", f"take {least:.1f} or more.")
        self.height *= max(0.6, min(1.0, self.width / usual))
        return beside

    def _end_rows(self) -> list[tuple[str, str]]:
        """Both ends' names in one row where they fit, otherwise one below the other."""
        room = self.width - 0.2
        if sum(self.sheet.measure(e, SMALL, bold=True) for e in self.ends) <= room:
            return [self.ends]
        a, b = (self.sheet.fit(e, self.width, SMALL, bold=True) for e in self.ends)
        return [(a, ""), ("", b)]

    def _legend_width(self) -> float:
        widths = [self.sheet.measure(clean(self.how.label(m)), TEXT, bold=True) for m, _ in self.legend]
        widths += [self.sheet.measure(self._small(*t), SMALL) for _, small in self.legend for t in small]
        return max(min(self.longest, w) for w in widths)

    def _small(self, data: str, text: str) -> str:
        """A barrier in the legend; a long name of the data gives way, not the figure."""
        if not data:
            return text
        room = self.longest - self.sheet.measure(f": {text}", SMALL)
        return f"{self.sheet.fit(data, room, SMALL)}: {text}"

    def draw_panel(self, place: int, panel: Panel) -> None:
        """One data set: losses, accuracies below where there are some, the names of the ends."""
        sheet, x = self.sheet, self.left + place * (self.width + _SPACE)
        axes = sheet.axes(x, self.top, self.width, self.height)
        _frame(axes, self.loss, tick_texts(self.loss.ticks, log=self.loss.log), first=place == 0)
        for n, s in enumerate(panel.series):
            self._line(axes, s, s.losses, s.spread, n)
            if s.method in (NAIVE, self.main):
                axes.plot(s.alphas, s.chord, color=SOFT, lw=0.9, ls=(0, (1, 2)), zorder=2.5)
        self._annotate(axes, panel)
        bottom, names = self.top + self.height, [(axes, self.loss.label)]
        if self.share:
            below = sheet.axes(x, bottom + _GAP, self.width, _ACCURACY_HEIGHT)
            self._draw_shares(below, panel, first=place == 0)
            names.append((below, "accuracy"))
            bottom += _GAP + _ACCURACY_HEIGHT
        for each, name in names if place == 0 else []:
            box = each.get_position()
            sheet.write(_EDGE, (1 - (box.y0 + box.y1) / 2) * sheet.height, name, va="center", rotation=90)
        self._write_around(x, bottom, names[-1][0], panel)

    def _draw_shares(self, axes: Any, panel: Panel, *, first: bool) -> None:
        assert self.share is not None
        _frame(axes, self.share, tick_texts(self.share.ticks, percent=True), first=first)
        for n, s in enumerate(panel.series):
            if s.accuracies is not None:
                self._line(axes, s, s.accuracies, s.accuracy_spread, n)

    def _write_around(self, x: float, bottom: float, lowest: Any, panel: Panel) -> None:
        sheet = self.sheet
        lowest.set_xticks(X_TICKS, X_TEXTS, fontsize=SMALL)
        if self.title and panel is self.panels[0]:
            room = sheet.width - self.left - _EDGE
            sheet.write(self.left, _EDGE, sheet.fit(self.title, room, LARGE, bold=True), LARGE, bold=True)
        if panel.data:
            head = sheet.fit(panel.data, self.width, TEXT)
            sheet.write(x, self.top - 0.07, head, TEXT, colour=SOFT, va="bottom")
        y = bottom + 0.1 + line_height(SMALL)
        for a, b in self.rows:
            sheet.write(x, y, a, SMALL, bold=True)
            sheet.write(x + self.width, y, b, SMALL, bold=True, ha="right")
            y += line_height(SMALL)
        label = sheet.fit(X_LABEL, self.width, SMALL)
        sheet.write(x + self.width / 2, y + 0.02, label, SMALL, colour=SOFT, ha="center")

    def _annotate(self, axes: Any, panel: Panel) -> None:
        """From the straight line between the ends up to the peak a bracket with the barrier's value."""
        placer = _placer(axes, panel)
        brackets = brackets_of(panel, self.main)
        for series, x, low, high in brackets:
            colour = self.looks[series.method].colour
            axes.plot([x, x], [low, high], color=colour, lw=1.1, marker="_", ms=9, mew=1.1, zorder=6)
            placer.add_line(pixels_of(axes, [(x, low), (x, high)]))
        for series, x, low, high in brackets:
            text = f"barrier {number(series.barrier[0])}"
            anchor = along(*pixels_of(axes, [(x, low), (x, high)]))
            box = placer.place(self.sheet.measure(text, SMALL, bold=True) * DPI, SMALL / 72 * DPI, anchor)
            label(axes, box, text, color=self.looks[series.method].colour, zorder=7)

    def draw_legend(self) -> None:
        """Right of the axes or below, where it covers nothing: the line, the name, what it costs."""
        sheet, y = self.sheet, self.legend_y
        for method, small in self.legend:
            look = self.looks[method]
            middle = y + 0.5 * TEXT / 72
            ends = (self.legend_x, self.legend_x + _KEY - 0.12)
            sheet.line(ends, (middle, middle), **_stroke(look, main=method == self.main))
            sheet.line((sum(ends) / 2,), (middle,), **_dot(look), ls="none")
            name = sheet.fit(clean(self.how.label(method)), self.longest, TEXT, bold=True)
            sheet.write(self.legend_x + _KEY, y, name, TEXT, bold=True)
            y += line_height(TEXT)
            for data, text in small:
                sheet.write(self.legend_x + _KEY, y, self._small(data, text), SMALL, colour=SOFT)
                y += line_height(SMALL)
            y += 0.1

    def _line(
        self, axes: Any, series: Series, values: Sequence[float], spread: Sequence[float], place: int
    ) -> None:
        """A method's line, its band, and a cross at the top where a value is not finite."""
        look, alphas, main = self.looks[series.method], series.alphas, series.method == self.main
        low, _ = axes.get_ylim()
        if any(d > 0 for d in spread if math.isfinite(d)):
            lows = [max(v - d, low) for v, d in zip(values, spread, strict=True)]
            highs = [v + d for v, d in zip(values, spread, strict=True)]
            axes.fill_between(alphas, lows, highs, color=look.colour, alpha=0.16, linewidth=0, zorder=2)
        every = max(1, len(alphas) // _MARKS)
        axes.plot(
            alphas, values, **_stroke(look, main=main), **_dot(look), markevery=(place % every, every),
            zorder=4 if main else 3, clip_on=False,
        )  # fmt: skip
        bad = [a for a, v in zip(alphas, values, strict=True) if not math.isfinite(v)]
        axes.plot(
            bad, [0.985 - 0.045 * place] * len(bad), "x", color=look.colour, ms=7, mew=2,
            transform=axes.get_xaxis_transform(), zorder=5,
        )  # fmt: skip


def share_scale(panels: Sequence[Panel]) -> Scale | None:
    """The accuracy axis, from 0 to 1 with some room; None where there are no accuracies."""
    edges = [
        v + sign * d
        for panel in panels
        for s in panel.series
        for v, d in zip(s.accuracies or (), s.accuracy_spread, strict=True)
        for sign in (-1, 1)
        if math.isfinite(v)
    ]
    return padded(max(0.0, min(edges)), min(1.0, max(edges)), _SHARES) if edges else None


def _legend_entries(panels: Sequence[Panel]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Every method with its barriers, one a data set: its name, and what is to be read."""
    data = told_apart([p.data for p in panels]) if len(panels) > 1 else ("",)
    named = list(zip(data, panels, strict=True))
    return [
        (m, [(name, barrier_text(s)) for name, p in named for s in p.series if s.method == m])
        for m in methods_of(panels)
    ]


def _frame(axes: Any, scale: Scale, texts: list[str], *, first: bool) -> None:
    """Axes with a light grid and no more lines than needed."""
    axes.set_yscale("log" if scale.log else "linear")
    axes.set_ylim(scale.low, scale.high)
    axes.set_xlim(-0.02, 1.02)
    axes.minorticks_off()
    axes.set_xticks(X_TICKS, [""] * len(X_TICKS))
    axes.set_yticks(scale.ticks, texts if first else [""] * len(texts), fontsize=SMALL)
    ticks_style(axes)
    axes.grid(color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _stroke(look: Look, *, main: bool) -> dict[str, Any]:
    return {
        "color": look.colour, "linewidth": 2.4 if main else 1.7,
        "linestyle": (0, look.dashes) if look.dashes else "-", "solid_capstyle": "round",
    }  # fmt: skip


def _dot(look: Look) -> dict[str, Any]:
    face = "white" if look.hollow else look.colour
    edge = look.colour if look.hollow else "white"
    return {
        "marker": look.marker, "markersize": 6, "markerfacecolor": face, "markeredgecolor": edge,
        "markeredgewidth": 1.2 if look.hollow else 0.7,
    }  # fmt: skip


def brackets_of(panel: Panel, main: str | None) -> list[tuple[Series, float, float, float]]:
    """Every barrier's series, where its bracket stands, and its ends: on the straight line, at the peak."""
    brackets: list[tuple[Series, float, float, float]] = []
    for series in panel.annotated(main):
        x = series.alphas[series.peak]
        if any(abs(x - other) < 0.04 for _, other, _, _ in brackets):
            x += 0.05 if x < 0.8 else -0.05
        low = (1 - x) * series.losses[0] + x * series.losses[-1]
        rise = series.losses[series.peak] - series.chord[series.peak]
        brackets.append((series, x, low, low + rise))
    return brackets


def _placer(axes: Any, panel: Panel) -> Placer:
    """Everything in the axes that a label must not cover."""
    box = axes.get_window_extent()
    placer = Placer(Box(box.x0, box.y0, box.x1, box.y1))
    for series in panel.series:
        for values in (series.losses, series.chord):
            placer.add_line(pixels_of(axes, list(zip(series.alphas, values, strict=True))))
    for line in axes.lines:  # the crosses of what is not finite
        if line.get_marker() == "x":
            for x, y in line.get_transform().transform(line.get_xydata()):
                placer.add_box(Box(x - 6, y - 6, x + 6, y + 6))
    return placer
