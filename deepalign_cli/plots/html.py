"""Interactive barrier curves, by plotly: a page of HTML that needs no other file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from deepalign_cli.extras import require
from deepalign_cli.plots.axis import loss_scale
from deepalign_cli.plots.curves import X_LABEL, X_TEXTS, X_TICKS, brackets_of, share_scale
from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.plots.page import LONG, division, on_hover, page, page_layout, plain, shown
from deepalign_cli.plots.placing import Box, Placer, along
from deepalign_cli.plots.series import NAIVE, Panel, Series, main_method, methods_of
from deepalign_cli.plots.style import FAINT, PURPOSE, SOFT, looks_of
from deepalign_cli.plots.text import barrier_figure, number

_HEIGHTS = (430, 620)  # pixels, without accuracies and with them
_BOTH = 112  # characters of the names of all ends, which are in one row
_AROUND, _LETTER = 170, 8  # pixels: what stands around the axes; a letter's width, rounded up
_WINDOW = 1100  # pixels: the usual width, for which labels are placed


def curves_html(panels: Sequence[Panel], ends: tuple[str, str], title: str, how: Drawing = PLAIN) -> str:
    """The picture, and a table of barriers."""
    drawing = _Figure(panels, how)
    for column, panel in enumerate(panels, 1):
        for place, series in enumerate(panel.series):
            drawing.add_series(series, place, column)
        drawing.add_brackets(panel, column)
        drawing.add_ends(ends, column)
    drawing.finish()
    heads = ["method", "data", "barrier"]
    rows = [[how.label(s.method), p.data, barrier_figure(s)] for p in panels for s in p.series]
    if not drawing.headed:
        heads, rows = ["method", "barrier"], [[method, barrier] for method, _, barrier in rows]
    title = title or f"{ends[0]} and {ends[1]}"
    least = _AROUND + 2 * _LETTER * len(panels) * drawing.longest
    return page(title, [division(drawing.figure, "curves")], heads, rows, how, least=least)


class _Figure:
    """One figure: a column for each data set, losses above accuracies."""

    def __init__(self, panels: Sequence[Panel], how: Drawing) -> None:
        self.how, self.window = how, how.pixels or _WINDOW
        self.panels, self.loss, self.share = panels, loss_scale(panels), share_scale(panels)
        self.rows = 2 if self.share else 1
        self.looks, self.main = looks_of(methods_of(panels)), main_method(panels)
        self.legend: set[str] = set()
        self.longest = min(LONG, _BOTH // (2 * len(panels)))
        self.headed = any(p.data for p in panels)
        self.figure = require("plotly.subplots", "plot", PURPOSE).make_subplots(
            rows=self.rows, cols=len(panels), shared_xaxes=True, shared_yaxes=True, vertical_spacing=0.06,
            horizontal_spacing=0.04, row_heights=[0.7, 0.3] if self.share else None,
            column_titles=[shown(p.data) for p in panels] if self.headed else None,
        )  # fmt: skip

    def add_series(self, series: Series, place: int, column: int) -> None:
        """A method's lines with their bands, and crosses where a loss is not finite."""
        look, name = self.looks[series.method], self.how.label(series.method)
        common = {
            "mode": "lines+markers", "legendgroup": series.method, "name": shown(name), "col": column,
            "line": {
                "color": look.colour, "width": 3 if series.method == self.main else 2,
                "dash": ",".join(f"{2 * d}px" for d in look.dashes) or "solid",
            },
            "marker": {"symbol": look.symbol + "-open" * look.hollow, "size": 7, "color": look.colour},
            "hovertemplate": "%{y:.4g} " + on_hover(name),
        }  # fmt: skip
        self._add_band(series, series.losses, series.spread, 1, column)
        first = series.method not in self.legend
        self.legend.add(series.method)
        self.figure.add_scatter(x=series.alphas, y=plain(series.losses), showlegend=first, row=1, **common)
        if series.accuracies is not None:
            self._add_band(series, series.accuracies, series.accuracy_spread, 2, column)
            shares = plain(series.accuracies)
            self.figure.add_scatter(x=series.alphas, y=shares, showlegend=False, row=2, **common)
        self._add_crosses(series, place, column)

    def _add_crosses(self, series: Series, place: int, column: int) -> None:
        bad = [a for a, v in zip(series.alphas, series.losses, strict=True) if not math.isfinite(v)]
        if bad:
            colour = self.looks[series.method].colour
            self.figure.add_scatter(
                x=bad, y=[self.loss.value(0.98 - 0.05 * place)] * len(bad), mode="markers", showlegend=False,
                row=1, col=column, legendgroup=series.method,
                marker={"symbol": "x-thin", "size": 9, "line": {"color": colour, "width": 2}},
                hovertemplate="not finite " + on_hover(self.how.label(series.method)),
            )  # fmt: skip

    def _add_band(self, series: Series, values: Sequence[float], spread: Sequence[float], row: int,
                  column: int) -> None:  # fmt: skip
        """From mean - sd to mean + sd; on a logarithmic axis not below its end."""
        known = [t for t in zip(series.alphas, values, spread, strict=True) if math.isfinite(t[1] + t[2])]
        if any(d > 0 for _, _, d in known):
            least = self.loss.low if row == 1 else 0.0
            edge = [(a, v + d) for a, v, d in known]
            edge += [(a, max(v - d, least)) for a, v, d in reversed(known)]
            xs, ys = zip(*edge, strict=True)
            self.figure.add_scatter(
                x=xs, y=ys, fill="toself", line={"width": 0}, mode="lines", row=row, col=column,
                fillcolor=self.looks[series.method].colour, opacity=0.16, hoverinfo="skip", showlegend=False,
                legendgroup=series.method,
            )  # fmt: skip

    def add_brackets(self, panel: Panel, column: int) -> None:
        """The straight lines between the ends, and the barriers with their values."""
        placer = self._placer(panel)
        for s in panel.series:
            if s.is_finite and s.method in (NAIVE, self.main):
                self._add_line(s, s.alphas, s.chord, {"color": SOFT, "dash": "dot", "width": 1}, column)
        brackets = brackets_of(panel, self.main)
        for s, x, low, high in brackets:
            line = {"color": self.looks[s.method].colour, "width": 1.5}
            xs = [x - 0.01, x + 0.01, x, x, x - 0.01, x + 0.01]
            self._add_line(s, xs, [low] * 3 + [high] * 3, line, column)
            placer.add_line([self._pixel(x, low), self._pixel(x, high)])
        for s, x, low, high in brackets:
            self._add_value(s, placer, along(self._pixel(x, low), self._pixel(x, high)), column)

    def _add_value(
        self, series: Series, placer: Placer, anchor: list[tuple[float, float]], column: int
    ) -> None:
        text = f"barrier {number(series.barrier[0])}"
        x, y = placer.place(_LETTER * len(text), 14, anchor).centre
        width, height = self._size()
        value = self.loss.value(y / height)
        self.figure.add_annotation(
            x=x / width * 1.04 - 0.02, y=math.log10(value) if self.loss.log else value,
            text=f"<b>{text}</b>", font={"color": self.looks[series.method].colour}, row=1, col=column,
            showarrow=False,
        )  # fmt: skip

    def _size(self) -> tuple[float, float]:
        """Of one panel's axes in pixels, in a window of the usual width."""
        height = _HEIGHTS[self.rows - 1] - 130
        return (self.window - _AROUND) / len(self.panels), height * (0.66 if self.share else 1.0)

    def _pixel(self, alpha: float, loss: float) -> tuple[float, float]:
        width, height = self._size()
        return (alpha + 0.02) / 1.04 * width, self.loss.place(loss) * height

    def _placer(self, panel: Panel) -> Placer:
        """Everything that a label must not cover."""
        placer = Placer(Box(0, 0, *self._size()))
        for place, s in enumerate(panel.series):
            for values in (s.losses, s.chord):
                points = zip(s.alphas, values, strict=True)
                placer.add_line([self._pixel(a, v) if math.isfinite(v) else (a, v) for a, v in points])
            bad = [a for a, v in zip(s.alphas, s.losses, strict=True) if not math.isfinite(v)]
            placer.add_line([self._pixel(a, self.loss.value(0.98 - 0.05 * place)) for a in bad])
        return placer

    def _add_line(self, series: Series, x: Sequence[float], y: Sequence[float], line: dict[str, Any],
                  column: int) -> None:  # fmt: skip
        """A line that explains: it goes with its method."""
        self.figure.add_scatter(
            x=list(x), y=list(y), mode="lines", line=line, row=1, col=column, hoverinfo="skip",
            showlegend=False, legendgroup=series.method,
        )  # fmt: skip

    def add_ends(self, ends: tuple[str, str], column: int) -> None:
        """The names of both ends below the lowest axes."""
        order = (self.rows - 1) * len(self.panels) + column
        axis = "" if order == 1 else str(order)
        for x, anchor, name in ((0, "left", ends[0]), (1, "right", ends[1])):
            self.figure.add_annotation(
                text=f"<b>{shown(name, self.longest)}</b>", hovertext=escape(name), x=x, y=0, showarrow=False,
                xref=f"x{axis} domain", yref=f"y{axis} domain", xanchor=anchor, yanchor="top", yshift=-24,
            )  # fmt: skip

    def finish(self) -> None:
        """Axes, grid and margins."""
        figure, loss = self.figure, self.loss
        figure.update_layout(
            **page_layout(self.how), height=_HEIGHTS[self.rows - 1], hovermode="x unified",
            margin={"l": 70, "r": 20, "t": 56 if self.headed else 30, "b": 90},
        )  # fmt: skip
        figure.update_xaxes(range=[-0.02, 1.02], tickvals=X_TICKS, ticktext=X_TEXTS, hoverformat=".3g")
        figure.update_xaxes(title={"text": X_LABEL, "standoff": 34}, row=self.rows)
        span = [math.log10(v) if loss.log else v for v in (loss.low, loss.high)]
        figure.update_yaxes(range=span, type="log" if loss.log else "linear", row=1)
        figure.update_yaxes(title_text=loss.label, row=1, col=1)
        if loss.log and loss.high > 100 * loss.low:
            figure.update_yaxes(dtick=1, row=1)  # powers of ten
        if loss.empty:
            figure.update_yaxes(showticklabels=False, row=1)
        if self.share:
            figure.update_yaxes(range=[self.share.low, self.share.high], tickformat=".2~%", row=2)
            figure.update_yaxes(title_text="accuracy", row=2, col=1)
        for update in (figure.update_xaxes, figure.update_yaxes):
            update(gridcolor=FAINT, zeroline=False)
