"""The files that `barrier` and `landscape` write, and how pictures look: what cannot be is refused first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepalign_cli.cli.aligning import AligningOptions
from deepalign_cli.cli.running_options import RunningOptions, pairs
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.plots import Drawing

_PANEL = "The picture"


@dataclass(frozen=True)
class DrawingOptions:
    """How a picture is drawn."""

    figure_width: Annotated[
        float | None,
        typer.Option(
            "--figure-width", metavar="INCHES", min=0.0, max=100.0, rich_help_panel=_PANEL,
            help="The width of the picture; its legend goes below where it has no room beside.",
        ),
    ] = None  # fmt: skip
    font: Annotated[
        str | None,
        typer.Option(
            "--font", metavar="NAME", rich_help_panel=_PANEL, help="The font's family: serif, Arial, ..."
        ),
    ] = None
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="NAME=TEXT", rich_help_panel=_PANEL,
            help="What the picture calls a curve (none=plain, deepalign=ours) or a network of a landscape "
            "(A='seed 0'); repeat it for more.",
        ),
    ] = None  # fmt: skip

    def drawing(self, kind: str, names: Sequence[str], least: float) -> Drawing:
        """The same for what draws a picture of a kind: none (empty), `terminal` or `file`.

        `names` are what can have labels, so far as that is known; `least` is the least width in inches.

        Raises:
            UsageError: an option has no effect, a label names nothing, the width is too small.
        """
        from deepalign_cli.plots import Drawing

        idle = {"": ("figure_width", "font", "label"), "terminal": ("figure_width", "font"), "file": ()}[kind]
        given = next((name for name in idle if getattr(self, name)), None)
        if given:
            option = f"--{given.replace('_', '-')}"
            raise UsageError(f"{option} is for a picture in a file.", "for example --plot curve.pdf")
        if self.figure_width is not None and self.figure_width < least:
            raise UsageError(
                f"--figure-width {self.figure_width:g} is too narrow.", f"take {least:.3g} or more."
            )
        drawing = Drawing(self.figure_width, self.font, pairs("--label", self.label))
        if names:
            drawing.check_labels(names)
        return drawing


def read_files(
    inputs: Sequence[Path],
    running: RunningOptions,
    aligning: AligningOptions,
    alignments: Sequence[Path] | None,
) -> list[Path]:
    """What a command reads: no picture and no table takes its place."""
    return [*inputs, *running.files(), *(alignments or ()), *filter(None, [aligning.spec])]


def check_drawing(
    picture: Path | None, csv: Path | None, reads: Sequence[Path], drawing: Drawing, *, force: bool
) -> None:
    """Check a picture and a table of its points; `reads` are files that are read.

    Raises:
        UsageError: one exists and is not to be overwritten, is read, is no kind of picture; both are one;
            there is no such font.
        OutputError: one could not be written. MissingExtra: what draws the picture is not installed.
    """
    from deepalign_cli.checkpoint import check_output
    from deepalign_cli.checkpoint.targets import real_target
    from deepalign_cli.plots import check_plot

    if picture is not None:
        check_plot(picture, force=force, inputs=reads, drawing=drawing)
    if csv is None:
        return
    check_output(csv, force=force, inputs=reads)
    if picture is not None and real_target(picture) == real_target(csv):
        raise UsageError(f"'{csv}' would hold both picture and rows.", "give --csv a file of its own.")
