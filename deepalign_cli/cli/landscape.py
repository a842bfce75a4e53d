"""`deepalign landscape`: the loss on the plane through three networks, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.barrier_tables import number
from deepalign_cli.cli.figures import DrawingOptions, check_drawing, read_files
from deepalign_cli.cli.grouped import dashed, option
from deepalign_cli.cli.options import OUTPUT, WriteOptions
from deepalign_cli.cli.output import TextTable
from deepalign_cli.cli.resting import resting
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import Method
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.landscape import LandscapeReport

_PANEL, _LEAST = "The plane", 3.2  # inches

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="A B [C]",
        help="Two checkpoints, for the plane through A, B and aligned B; or three, for their own plane.",
    ),
]


@dataclass(frozen=True)
class PlaneOptions:
    """The grid, and where it is drawn and written."""

    points: int = option("Points along the longer side of the grid.", _PANEL, 25, min=3, max=201)
    csv: Path | None = option("Write every point as a row.", _PANEL, metavar="FILE")
    output: Path | None = option(
        "The picture: a .png, .svg, .pdf, .pgf (LaTeX) or .html file. A's name with '.landscape.png' by "
        "default.", OUTPUT, short="-o", metavar="OUT",
    )  # fmt: skip


def landscape(
    inputs: Inputs, *, running: RunningOptions, method: Method = None, aligning: AligningOptions,
    plane: PlaneOptions, drawing: DrawingOptions, common: WriteOptions,
) -> None:  # fmt: skip
    """Draw the loss on the plane through A, B and aligned B.

    With three checkpoints it is the plane through these, as they are. Every point is a network that is run
    on the data: 1,000 examples unless --limit says more. BatchNorm, if there is any, is re-estimated at
    every point.

    Example:
        deepalign landscape a.pt b.pt --data mnist.npz --normalise standard --activation relu
        deepalign landscape a.pt b.pt c.pt --data mnist.npz --normalise standard -o plane.html
    """
    out = common.sink("landscape")
    if len(inputs) not in (2, 3):
        raise UsageError("landscape takes two or three checkpoints.", "deepalign landscape A B --data D")
    if running.data is None:
        raise UsageError("landscape needs data to run the networks on.", "add --data mnist.npz")
    settings = make_settings([method] if method else None, aligning, force=common.force)
    _check(settings.method, len(inputs), aligning, running, method)
    from deepalign_cli.cli.align import default_output
    from deepalign_cli.operations.barrier import Question
    from deepalign_cli.operations.landscape import landscape_files, save_view

    picture = plane.output or default_output(inputs[0], "landscape").with_suffix(".png")
    how = drawing.drawing("file", ("A", "aligned B", "B") if len(inputs) == 2 else ("A", "B", "C"), _LEAST)
    reads, subject = read_files(inputs, running, aligning), running.subject()
    check_drawing(picture, plane.csv, reads, how, force=common.force, dreams=subject.dreams_in)
    question = Question(tuple(inputs), (), settings, subject, tuple(aligning.alignment or ()), plane.points)
    with out.progress("aligning") as progress:
        report = landscape_files(question, progress)
    out.notes(report.notes)
    save_view(report, picture, plane.csv, force=common.force, drawing=how)
    written = [picture, *filter(None, [plane.csv])]
    out.result(_payload(report, written), lambda console: _show(console, report, written), *written)


def _check(used: str, count: int, how: AligningOptions, running: RunningOptions, method: str | None) -> None:
    """Check the options of a plane through so many networks."""
    values = {"method": method, **vars(how)}
    idle = [n for n, v in values.items() if v not in (None, []) and n not in ("spec", "activation")]
    if count == 3 and idle:
        raise UsageError(
            f"three networks are taken as they are, so {dashed(idle[0])} has no effect.",
            "leave it out, or align them first: deepalign align A B C -o aligned/",
        )
    if used == "none":
        problem = "-m none moves nothing, and two networks span no plane."
        raise UsageError(problem, "use another method, or three inputs.")
    if count == 2 and len(running.split or ()) > 1:
        raise UsageError("a landscape shows one split of the data.", "give --split once.")
    check_data([used], how, running, elsewhere=True)


def _payload(report: LandscapeReport, written: Sequence[Path]) -> dict[str, object]:
    landscape = report.landscape
    keys = ("xs", "ys", "losses", "accuracies", "places", "paths")
    return {
        "output": written[0],
        "outputs": written,
        "method": report.method,
        **{key: getattr(landscape, key) for key in keys},
        "at": report.at,
        "loss": report.loss,
        "data": landscape.data,
        "seconds": report.seconds,
        **resting(report.spec),
    }


def _show(console: Console, report: LandscapeReport, written: Sequence[Path]) -> None:
    places = zip(report.landscape.places.items(), report.at.values(), strict=True)
    rows = [[label, number(loss), f"{x:.2f}", f"{y:.2f}"] for (label, (x, y)), loss in places]
    title = f"{report.landscape.data}: {report.loss}"
    console.print(TextTable(["network", "loss", "x", "y"], rows, title))
    ys, xs = report.landscape.losses.shape
    console.print(f"wrote {' and '.join(map(str, written))}: {ys * xs} networks in {report.seconds:.1f} s")
