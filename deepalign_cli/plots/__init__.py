"""Pictures of what a merge costs: barrier curves and loss landscapes, as PNG, SVG, PDF, PGF or HTML.

What the file's suffix says is drawn by matplotlib, or by plotly for HTML; both come with the extra `plot`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.checkpoint.targets import check_output
from deepalign_cli.errors import UsageError
from deepalign_cli.extras import require
from deepalign_cli.measure.curve import Curve
from deepalign_cli.plots.drawing import PLAIN, Drawing, place_key
from deepalign_cli.plots.style import PURPOSE, matplotlib_style
from deepalign_cli.plots.text import clean, ends_of

if TYPE_CHECKING:
    from deepalign_cli.measure.plane import Landscape

__all__ = ["Drawing", "check_plot", "save_curves", "save_landscape"]

_HTML = ".html"
_NEEDS = {**dict.fromkeys((".png", ".svg", ".pdf", ".pgf"), "matplotlib"), _HTML: "plotly"}


def check_plot(
    path: str | Path, *, force: bool = False, inputs: Sequence[Path] = (), drawing: Drawing = PLAIN
) -> None:
    """Refuse a picture that could not be written, before any work is done.

    Raises:
        UsageError: no such kind of picture or font, or as `check_output` does. OutputError: as it does.
        MissingExtra: the package that draws it is not installed.
    """
    check_output(path, force=force, inputs=inputs)
    require(_NEEDS[_kind(path)], "plot", PURPOSE)
    if _kind(path) != _HTML:
        with matplotlib_style(drawing):
            pass  # the font is there


def save_curves(
    path: str | Path, curves: Sequence[Curve], *, names: tuple[str, str] | None = None, title: str = "",
    force: bool = False, inputs: Sequence[Path] = (), drawing: Drawing = PLAIN,
) -> None:  # fmt: skip
    """Draw curves: a panel for each data set, a line for each method, the mean over curves that share both.

    `names` are the two inputs'; None where there are several pairs.

    Raises:
        UsageError, OutputError, MissingExtra: as `check_plot` does.
    """
    from deepalign_cli.plots.series import panels_of

    check_plot(path, force=force, inputs=inputs, drawing=drawing)
    drawing.check_labels(curve.method for curve in curves)
    panels, ends, title = panels_of(curves), ends_of(names), clean(title)
    if _kind(path) == _HTML:
        from deepalign_cli.plots.html import curves_html

        content = curves_html(panels, ends, title, drawing).encode()
    else:
        from deepalign_cli.plots.curves import draw_curves

        with matplotlib_style(drawing):
            sheet = draw_curves(panels, ends, title, drawing)
            content = sheet.render(_kind(path)[1:], title or "Barrier curves")
    write_bytes(Path(path), content, force=force)


def save_landscape(
    path: str | Path, landscape: Landscape, *, title: str = "", force: bool = False,
    inputs: Sequence[Path] = (), drawing: Drawing = PLAIN,
) -> None:  # fmt: skip
    """Draw the loss on a plane through three networks, whose labels may be any text.

    Raises:
        UsageError, OutputError, MissingExtra: as `check_plot` does.
    """
    check_plot(path, force=force, inputs=inputs, drawing=drawing)
    drawing.check_labels(map(place_key, landscape.places))
    landscape = replace(
        landscape,
        places={drawing.place(name): place for name, place in landscape.places.items()},
        paths=tuple((drawing.place(a), drawing.place(b)) for a, b in landscape.paths),
    )
    title = clean(title)
    if _kind(path) == _HTML:
        from deepalign_cli.plots.html_landscape import landscape_html

        content = landscape_html(landscape, title, drawing).encode()
    else:
        from deepalign_cli.plots.contours import draw_landscape

        with matplotlib_style(drawing):
            sheet = draw_landscape(landscape, title, drawing)
            content = sheet.render(_kind(path)[1:], title or "Loss landscape")
    write_bytes(Path(path), content, force=force)


def _kind(path: str | Path) -> str:
    kind = Path(path).suffix.lower()
    if kind not in _NEEDS:
        kinds = ", ".join(_NEEDS)
        raise UsageError(f"deepalign cannot draw {path}.", f"end it in one of {kinds}")
    return kind
