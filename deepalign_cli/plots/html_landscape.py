"""An interactive loss landscape, by plotly: contours, and a surface to turn."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from deepalign_cli.extras import require
from deepalign_cli.plots.contours import DISTANCE
from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.plots.grid import bar_ticks, levels_of, loss_name, losses_of
from deepalign_cli.plots.page import division, on_hover, page, page_layout, plain, shown
from deepalign_cli.plots.style import PURPOSE
from deepalign_cli.plots.text import clean, number

if TYPE_CHECKING:
    from deepalign_cli.measure.plane import Landscape

_HEIGHT, _WIDTH = 600, 700  # pixels, the second at least
_BAR = 64  # characters that fit beside the bar of colours
_NEAR = 0.4  # of the width: labels nearer to each other stand at different heights
_TELL = "%{x:.3g}, %{y:.3g}<br>loss %{customdata:.4g}<extra></extra>"


def landscape_html(landscape: Landscape, title: str, how: Drawing = PLAIN) -> str:
    """Both views with a switch between them, and a table of the networks."""
    objects = require("plotly.graph_objects", "plot", PURPOSE)
    flat, deep = objects.Figure(), objects.Figure()
    levels, log = levels_of(losses_of(landscape))
    if levels:
        _add_losses(flat, deep, landscape)
    _add_missing(flat, landscape)
    _add_networks(flat, landscape)
    _finish(flat, deep, landscape, loss_name(landscape, log=log), how)
    rows = [[clean(name), number(x), number(y)] for name, (x, y) in landscape.places.items()]
    figures = [division(flat, "landscape"), division(deep, "surface-view", library=False)]
    return page(title or "Loss landscape", figures, ["network", "x", "y"], rows, how, least=_WIDTH)


def _add_losses(flat: Any, deep: Any, landscape: Landscape) -> None:
    """Where losses are spaced by ratio, their logarithms are drawn and they themselves told."""
    losses = losses_of(landscape)
    levels, log = levels_of(losses)
    ticks, texts = bar_ticks(levels, log=log)
    height = math.log10 if log else float
    low, high = height(levels[0]), height(levels[-1])
    bar = {"tickvals": [height(t) for t in ticks], "ticktext": texts}
    common = {
        "x": landscape.xs, "y": landscape.ys, "colorscale": "Viridis", "hovertemplate": _TELL,
        "z": [plain([height(v) for v in row]) for row in losses.tolist()],
        "customdata": [plain(row) for row in losses.tolist()],
        "colorbar": {**bar, "title": {"text": shown(loss_name(landscape, log=log), _BAR), "side": "right"}},
    }  # fmt: skip
    contours = {"start": low, "end": high, "size": (high - low) / (len(levels) - 1)}
    flat.add_contour(contours=contours, line={"color": "white", "width": 0.5}, zmin=low, zmax=high, **common)
    deep.add_surface(cmin=low, cmax=high, **common)
    deep.update_layout(scene={"zaxis": bar})


def _add_networks(figure: Any, landscape: Landscape) -> None:
    """The networks, the straight paths between them, and labels away from the middle."""
    for path in landscape.paths:
        xs, ys = zip(*(landscape.places[end] for end in path), strict=True)
        for colour, width in (("black", 5), ("white", 2.5)):
            line = {"color": colour, "width": width}
            figure.add_scatter(x=xs, y=ys, mode="lines", line=line, hoverinfo="skip")
    middle = (landscape.ys[0] + landscape.ys[-1]) / 2
    span = landscape.xs[-1] - landscape.xs[0]
    before: list[tuple[float, bool]] = []
    for name, (x, y) in landscape.places.items():
        dot = {"size": 12, "color": "white", "line": {"color": "black", "width": 2}}
        figure.add_scatter(x=[x], y=[y], mode="markers", hovertemplate=on_hover(name), marker=dot)
        above = y >= middle
        shift = 12 + 24 * sum(abs(x - other) < _NEAR * span for other, side in before if side == above)
        before.append((x, above))
        figure.add_annotation(
            x=x, y=y, text=f"<b>{shown(name)}</b>", showarrow=False, borderpad=3,
            bgcolor="rgba(255,255,255,0.88)", yanchor="bottom" if above else "top",
            yshift=shift if above else -shift,
        )  # fmt: skip


def _add_missing(figure: Any, landscape: Landscape) -> None:
    """A small cross wherever the loss is not finite."""
    rows = zip(landscape.ys, losses_of(landscape).tolist(), strict=True)
    missing = [
        (x, y) for y, row in rows for x, v in zip(landscape.xs, row, strict=True) if not math.isfinite(v)
    ]
    if missing:
        xs, ys = zip(*missing, strict=True)
        figure.add_scatter(
            x=xs, y=ys, mode="markers",
            marker={"symbol": "x-thin", "size": 5, "line": {"color": "#9a9a9a", "width": 1}},
            hovertemplate="the loss is not finite<extra></extra>",
        )  # fmt: skip


def _finish(flat: Any, deep: Any, landscape: Landscape, name: str, how: Drawing) -> None:
    for figure in (flat, deep):
        figure.update_layout(
            **page_layout(how), height=_HEIGHT, showlegend=False, margin={"l": 70, "r": 20, "t": 20, "b": 60}
        )
    common = {"title_text": DISTANCE, "constrain": "domain", "showgrid": False, "zeroline": False}
    flat.update_xaxes(range=[landscape.xs[0], landscape.xs[-1]], **common)
    flat.update_yaxes(range=[landscape.ys[0], landscape.ys[-1]], scaleanchor="x", **common)
    deep.update_scenes(xaxis_title_text="", yaxis_title_text="", zaxis_title_text=shown(name))
