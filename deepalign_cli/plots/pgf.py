r"""Pictures that LaTeX typesets: `\usepackage{pgf}` and `\input{curve.pgf}`, in the document's own fonts.

Matplotlib's PGF backend asks LaTeX for the size of every text. Here Agg measures them, as in the other kinds
of picture, so no LaTeX need be installed; places are the same, and LaTeX aligns the texts there.
"""

from __future__ import annotations

import io
from typing import Any

from deepalign_cli.extras import require
from deepalign_cli.plots.text import ALPHA, CROSS

# Matplotlib sees to ^, % and the minus sign.
_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", **{c: f"\\{c}" for c in "{}$&#_"},
        ALPHA: r"\ensuremath{\alpha}", CROSS: r"\ensuremath{\times}", "±": r"\ensuremath{\pm}",
        "…": r"\dots{}", "<": r"\ensuremath{<}", ">": r"\ensuremath{>}",
    }
)  # fmt: skip
_HEAD = r"""%% To include the figure in a LaTeX document: \usepackage{pgf} and \input{<filename>.pgf}
\begingroup%%
\makeatletter%%
\begin{pgfpicture}%%
\pgfpathrectangle{\pgfpointorigin}{\pgfqpoint{%fin}{%fin}}%%
\pgfusepath{use as bounding box, clip}%%
"""
_TAIL = r"""\end{pgfpicture}%
\makeatother%
\endgroup%
"""


def pgf(figure: Any, agg: Any) -> str:
    """The figure as LaTeX's text; `agg` is the renderer that measures."""
    backend = require("matplotlib.backends.backend_pgf", "plot", "drawing a picture")

    class Renderer(backend.RendererPgf):  # type: ignore[misc, name-defined]
        def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> Any:
            return agg.get_text_width_height_descent(s, prop, ismath)

        def draw_text(self, gc: Any, x: float, y: float, s: str, *rest: Any, **more: Any) -> None:
            super().draw_text(gc, x, y, s.translate(_TEX), *rest, **more)

    text = io.StringIO()
    text.write(_HEAD % tuple(figure.get_size_inches()))
    figure.draw(Renderer(figure, text))
    text.write(_TAIL)
    return text.getvalue()
