"""A matplotlib figure laid out in inches, whose texts are measured before they are placed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from deepalign_cli.extras import require
from deepalign_cli.plots.pgf import pgf
from deepalign_cli.plots.placing import Box
from deepalign_cli.plots.style import INK, PURPOSE, SOFT
from deepalign_cli.plots.text import elide

DPI = 150
SMALL, TEXT, LARGE = 8.5, 10.0, 12.0  # points
_LINE = 1.35  # of a letter's height, from line to line


class Sheet:
    """A white figure; `y` is in inches from the top, as one reads. Made within `matplotlib_style`."""

    def __init__(self) -> None:
        self.figure = require("matplotlib.figure", "plot", PURPOSE).Figure(facecolor="white", dpi=DPI)
        agg = require("matplotlib.backends.backend_agg", "plot", PURPOSE)
        self._canvas = agg.FigureCanvasAgg(self.figure)
        self._properties = require("matplotlib.font_manager", "plot", PURPOSE).FontProperties
        self.width, self.height = 0.0, 0.0

    def resize(self, width: float, height: float) -> None:
        """Set the size before anything is placed."""
        self.width, self.height = width, height
        self.figure.set_size_inches(width, height)

    def measure(self, text: str, size: float = TEXT, *, bold: bool = False) -> float:
        """The width of a text in inches."""
        font = self._properties(size=size, weight="bold" if bold else "normal")
        with quiet():
            width, _, _ = self._canvas.get_renderer().get_text_width_height_descent(text, font, ismath=False)
        return float(width) / DPI

    def fit(self, text: str, width: float, size: float = TEXT, *, bold: bool = False) -> str:
        """The text, shortened in the middle to a width in inches."""
        return elide(text, lambda t: self.measure(t, size, bold=bold) <= width)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        """Axes with their upper left corner at (x, y)."""
        box = (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def write(self, x: float, y: float, text: str, size: float = TEXT, *, bold: bool = False,
              colour: str = INK, ha: str = "left", va: str = "top", rotation: float = 0.0,
    ) -> None:  # fmt: skip
        """Text at a place."""
        self.figure.text(
            x / self.width, 1 - y / self.height, text, size=size, weight="bold" if bold else "normal",
            color=colour, ha=ha, va=va, rotation=rotation, parse_math=False,
        )  # fmt: skip

    def line(self, x: tuple[float, ...], y: tuple[float, ...], **look: Any) -> None:
        """A line through places in inches."""
        line = require("matplotlib.lines", "plot", PURPOSE).Line2D
        places = [v / self.width for v in x], [1 - v / self.height for v in y]
        self.figure.add_artist(line(*places, transform=self.figure.transFigure, **look))

    def render(self, kind: str, title: str) -> bytes:
        """The picture as a file of a kind: png, svg, pdf or pgf. The same picture gives the same bytes."""
        if kind == "pgf":
            return pgf(self.figure, self._canvas.get_renderer()).encode()
        metadata: dict[str, dict[str, Any]] = {
            "png": {"Software": None},
            "svg": {"Date": None, "Creator": "deepalign", "Title": title},
            "pdf": {"CreationDate": None, "Producer": None, "Creator": "deepalign", "Title": title},
        }
        file = io.BytesIO()
        with quiet():
            self.figure.savefig(file, format=kind, metadata=metadata[kind], dpi=DPI)
        return file.getvalue()


def pixels_of(axes: Any, places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Places in the axes' units as pixels."""
    return [(float(x), float(y)) for x, y in axes.transData.transform(places)]


def label(axes: Any, box: Box, text: str, **look: Any) -> None:
    """A short bold text in the middle of a box of pixels."""
    axes.text(
        *axes.transData.inverted().transform(box.centre), text, size=SMALL, weight="bold", ha="center",
        va="center_baseline", parse_math=False, **look,
    )  # fmt: skip


def ticks_style(axes: Any) -> None:
    """How ticks look in every picture."""
    axes.tick_params(length=3, color=SOFT, labelcolor=INK)


def line_height(size: float) -> float:
    """From one line to the next, in inches."""
    return size / 72 * _LINE


@contextmanager
def quiet() -> Iterator[None]:
    """Names may be in scripts that the font lacks: boxes stand for their letters, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s)Glyph .* missing", UserWarning)
        warnings.filterwarnings("ignore", r"(?s)Matplotlib currently does not support", UserWarning)
        yield
