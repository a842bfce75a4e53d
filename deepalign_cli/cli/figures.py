"""The files that `barrier` and `landscape` write, and how pictures look; all checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.cli.grouped import dashed, option
from deepalign_cli.cli.options import AlignmentOptions
from deepalign_cli.cli.running_options import RunningOptions, pairs
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.plots import Drawing

_PANEL = "The picture"


@dataclass(frozen=True)
class DrawingOptions:
    """How a picture is drawn."""

    figure_width: float | None = option(
        "The width of the picture; the legend moves below the curves where there is no room beside them.",
        _PANEL, metavar="INCHES", min=0.0, max=100.0,
    )  # fmt: skip
    font: str | None = option("The font family: serif, Arial, ...", _PANEL, metavar="NAME")
    label: list[str] | None = option(
        "The label of a curve (none=plain, deepalign=ours) or of a network in a landscape (A='seed 0'); "
        "repeat it for more.", _PANEL, metavar="NAME=TEXT",
    )  # fmt: skip

    def drawing(self, kind: str, names: Sequence[str], least: float) -> Drawing:
        """The same for what draws a picture of a kind: none (empty), `terminal` or `file`.

        `names` are what can have labels, as far as that is known; `least` is the least width in inches.

        Raises:
            UsageError: an option has no effect, a label names nothing, the width is too small.
        """
        from deepalign_cli.plots import Drawing

        idle = {"": ("figure_width", "font", "label"), "terminal": ("figure_width", "font"), "file": ()}[kind]
        useless = next((name for name in idle if getattr(self, name)), None)
        if useless:
            raise UsageError(
                f"{dashed(useless)} is for a picture in a file.", "add --plot curve.pdf, for example"
            )
        width = self.figure_width
        if width is not None and width < least:
            raise UsageError(f"--figure-width {width:g} is too narrow.", f"use {least:.3g} or more.")
        drawing = Drawing(width, self.font, pairs("--label", self.label))
        if names:
            drawing.check_labels(names)
        return drawing


def read_files(inputs: Sequence[Path], running: RunningOptions, aligning: AlignmentOptions) -> list[Path]:
    """The files that a command reads: no picture and no table may take their place."""
    return [*inputs, *running.files(), *(aligning.alignment or ()), *filter(None, [aligning.spec])]


def check_drawing(
    picture: Path | None, csv: Path | None, reads: Sequence[Path], drawing: Drawing, *, force: bool,
    dreams: Sequence[Path] = (),
) -> None:  # fmt: skip
    """Check the paths of a picture and of a table of its points; `reads` are files that are read.

    `dreams` are files that are written besides.

    Raises:
        UsageError: one exists and must not be overwritten, is an input, is not a known kind of picture; both
            are one; there is no such font.
        OutputError: one could not be written. MissingExtra: what draws the picture is not installed.
    """
    from deepalign_cli.checkpoint import check_output
    from deepalign_cli.checkpoint.targets import real_target
    from deepalign_cli.plots import check_plot

    _check_apart([picture, csv], dreams)
    if picture is not None:
        check_plot(picture, force=force, inputs=reads, drawing=drawing)
    if csv is None:
        return
    check_output(csv, force=force, inputs=reads)
    if picture is not None and real_target(picture) == real_target(csv):
        raise UsageError(f"'{csv}' would hold both picture and rows.", "give --csv a file of its own.")


def _check_apart(written: Sequence[Path | None], dreams: Sequence[Path]) -> None:
    """Refuse what would be written where dreams are saved."""
    if not dreams:
        return
    from deepalign_cli.checkpoint.targets import real_target
    from deepalign_cli.operations.job import clash_of_dreams

    taken = {real_target(path) for path in written if path is not None}
    for path in dreams:
        if real_target(path) in taken:
            raise clash_of_dreams(path)
