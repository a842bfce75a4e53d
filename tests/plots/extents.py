"""Where the texts of a drawn sheet are, as matplotlib's own renderer has them."""

from __future__ import annotations

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from deepalign_cli.plots.sheet import Sheet, quiet

_ROUNDING = 0.5  # pixels


def texts_of(sheet: Sheet) -> list[tuple[str, Bbox]]:
    """Every visible text and its extent in pixels."""
    with quiet():
        canvas = FigureCanvasAgg(sheet.figure)
        sheet.figure.draw_without_rendering()
        found = [t for t in sheet.figure.findobj(Text) if t.get_visible() and t.get_text()]
        return [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in found]


def overlaps(texts: list[tuple[str, Bbox]]) -> list[tuple[str, str]]:
    """The texts that are on each other."""
    return [(a, b) for (a, x), (b, y) in combinations(texts, 2) if _meet(x, y)]


def outside(sheet: Sheet, texts: list[tuple[str, Bbox]]) -> list[str]:
    """The texts that are cut by the edge."""
    width, height = sheet.figure.bbox.width, sheet.figure.bbox.height
    return [t for t, b in texts if b.x0 < 0 or b.y0 < 0 or b.x1 > width or b.y1 > height]


def _meet(a: Bbox, b: Bbox) -> bool:
    across = min(a.x1, b.x1) - max(a.x0, b.x0)
    along = min(a.y1, b.y1) - max(a.y0, b.y0)
    return bool(across > _ROUNDING and along > _ROUNDING)
