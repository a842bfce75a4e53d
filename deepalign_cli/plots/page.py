"""A page of HTML around plotly's figures that fetches nothing: its policy forbids it to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.plots.style import INK
from deepalign_cli.plots.text import clean, elide

LONG = 34  # characters of a name in the picture; the whole is in the table, or shown on hovering

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline' \
'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; worker-src blob:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>{title}</title>
<style>
body {{ margin: 0; padding: 20px; background: #fff; color: #222;
  font: 14px/1.5 {fonts}; }}
main {{ max-width: 1200px; margin: auto; }}
h1 {{ font-size: 18px; margin: 0 0 8px; overflow-wrap: anywhere; }}
table {{ border-collapse: collapse; margin-top: 12px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 4px 14px 4px 0; text-align: left; border-bottom: 1px solid #ddd; }}
td {{ overflow-wrap: anywhere; }}
td:last-child {{ white-space: nowrap; }}
.views {{ position: relative; overflow-x: auto; }}
.views > div {{ min-width: {least}px; }}
.views > div + div {{ position: absolute; inset: 0; visibility: hidden; }}
#surface:checked ~ .views > div {{ visibility: hidden; }}
#surface:checked ~ .views > div + div {{ visibility: visible; }}
label {{ margin-right: 16px; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<noscript><p>The picture needs JavaScript; the page fetches nothing.</p></noscript>
"""
_SWITCH = """<input type="radio" name="view" id="contours" checked> <label for="contours">contours</label>
<input type="radio" name="view" id="surface"> <label for="surface">surface</label>
"""


def page(
    title: str, figures: Sequence[str], columns: Sequence[str], rows: Sequence[Sequence[str]],
    how: Drawing = PLAIN, *, least: int,
) -> str:  # fmt: skip
    """One figure, or two with a switch between them, and a table below. All but the figures is escaped.

    In a window narrower than `least` pixels the figures are scrolled.
    """
    least, fonts = min(least, how.pixels or least), ", ".join(how.families)
    parts = [_HEAD.format(title=escape(title), least=least, fonts=fonts), _SWITCH if len(figures) > 1 else ""]
    parts += ['<div class="views">\n', *(f"<div>{figure}</div>\n" for figure in figures), "</div>\n"]
    return "".join([*parts, _table(columns, rows), "</main>\n</body>\n</html>\n"])


def division(figure: Any, name: str, *, library: bool = True) -> str:
    """One of plotly's figures, with the library itself where it is the page's first."""
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
    return str(figure.to_html(full_html=False, include_plotlyjs=library, div_id=name, config=config))


def page_layout(how: Drawing) -> dict[str, Any]:
    """What every figure's layout shares."""
    font = {"family": ", ".join(how.families), "size": 12, "color": INK}
    return {"template": "plotly_white", "font": font, "width": how.pixels}


def shown(name: str, longest: int = LONG) -> str:
    """A name as plotly shows it as it is: its texts are a kind of HTML."""
    return escape(elide(clean(name), lambda t: len(t) <= longest))


def on_hover(name: str) -> str:
    """The same, in full, in a template of the text on hovering, where a percent sign begins a figure."""
    return escape(clean(name)).replace("%", "&#37;") + "<extra></extra>"


def plain(values: Sequence[float]) -> list[float | None]:
    """None for what is not finite: JSON cannot express it."""
    return [v if math.isfinite(v) else None for v in values]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_row("th", columns), *(_row("td", row) for row in rows)]
    return "<table>\n" + "\n".join(lines) + "\n</table>\n"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
