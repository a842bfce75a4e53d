"""How methods look, in every kind of picture: colour, dashes and marker, so that no one of them is needed.

Colours are Okabe and Ito's, which colour-blind readers tell apart. What is not aligned is grey and dashed.
A method keeps its look from picture to picture; its variants (`deepalign + repair`) share its colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from deepalign_cli.errors import UsageError
from deepalign_cli.extras import require
from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.plots.series import NAIVE, base

INK, SOFT, FAINT = "#222222", "#5f5f5f", "#dddddd"  # text; what explains; grid
PURPOSE = "drawing a picture"


@dataclass(frozen=True)
class Look:
    """`dashes` in line widths, on and off by turns; markers by matplotlib's and plotly's names.

    `ansi` is the colour's number of a terminal's 256, readable on white and on black; `sign` and `letter`
    mark the method's points there, in Unicode and in ASCII.
    """

    colour: str
    dashes: tuple[float, ...]
    marker: str
    symbol: str
    ansi: int
    sign: str
    letter: str
    hollow: bool = False


_NAIVE = Look("#767676", (4, 2), "X", "x", 245, "·", "x")
_LOOKS = {
    "deepalign": Look("#0072B2", (), "o", "circle", 33, "●", "o"),
    "weights": Look("#D55E00", (6, 1.5, 1, 1.5), "s", "square", 166, "■", "#"),
    "activations": Look("#009E73", (5, 1.5), "^", "triangle-up", 35, "▲", "^"),
    "dual": Look("#CC79A7", (2.5, 1), "D", "diamond", 170, "◆", "%"),
}
_HOLLOW = {  # of signs and letters
    "·": ("◦", "X"), "●": ("○", "O"), "■": ("□", "H"), "▲": ("△", "A"), "◆": ("◇", "D"), "▼": ("▽", "V"),
    "✚": ("✢", "T"), "★": ("☆", "S"),
}  # fmt: skip
_OTHERS = (
    Look("#E69F00", (8, 2), "v", "triangle-down", 172, "▼", "v"),
    Look("#56B4E9", (3, 1.5, 1, 1.5, 1, 1.5), "P", "cross", 38, "✚", "+"),
    Look("#000000", (1.5, 1.5), "*", "star", 243, "★", "*"),
)


def looks_of(methods: Sequence[str]) -> dict[str, Look]:
    """The look of every method."""
    others = cycle(_OTHERS)
    of_base: dict[str, Look] = {NAIVE: _NAIVE, **_LOOKS}
    variants: dict[str, int] = {}
    looks = {}
    for method in methods:
        name = base(method)
        look = of_base.get(name) or of_base.setdefault(name, next(others))
        variants[name] = variants.get(name, -1) + 1
        if variants[name]:
            sign, letter = _HOLLOW[look.sign]
            dots = (1, 1 + 0.8 * variants[name])
            look = replace(look, dashes=dots, hollow=True, sign=sign, letter=letter)
        looks[method] = look
    return looks


@contextmanager
def matplotlib_style(drawing: Drawing = PLAIN) -> Iterator[Any]:
    """Matplotlib with its own defaults and ours, whatever its user has set, for the length of the block.

    Text stays text in SVG and PDF, names are not read as mathematics, and equal pictures are equal bytes.

    Raises:
        UsageError: there is no such font.
    """
    matplotlib = require("matplotlib", "plot", PURPOSE)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": [*filter(None, [drawing.font]), "sans-serif"],
                "font.sans-serif": list(PLAIN.families[:-1]),
                "font.size": 10,
                "text.color": INK,
                "text.parse_math": False,
                "axes.edgecolor": SOFT,
                "axes.linewidth": 0.8,
                "axes.unicode_minus": True,
                "hatch.linewidth": 0.6,
                "svg.fonttype": "none",
                "svg.hashsalt": "deepalign",
                "pdf.fonttype": 42,
            }
        )
        if drawing.font is not None:
            _check_font(drawing.font)
        yield matplotlib


def _check_font(family: str) -> None:
    """Matplotlib would warn, and use another font."""
    fonts = require("matplotlib.font_manager", "plot", PURPOSE)
    try:
        fonts.findfont(fonts.FontProperties(family=family), fallback_to_default=False)
    except ValueError:
        hint = "use serif, sans-serif, monospace, or an installed font."
        raise UsageError(f"the font '{family}' is not installed.", hint) from None
