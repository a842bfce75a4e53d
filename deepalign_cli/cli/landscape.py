"""`deepalign landscape`: the loss on the plane through three networks, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deepalign_cli.cli import options
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.barrier_tables import number
from deepalign_cli.cli.figures import DrawingOptions, check_drawing, read_files
from deepalign_cli.cli.grouped import grouped
from deepalign_cli.cli.output import Output, table
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import Method
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.landscape import LandscapeReport

_PANEL, _LEAST = "The plane", 3.2  # inches
_OPTIONS, _PICTURE = AligningOptions(), DrawingOptions()

Inputs = Annotated[
    list[Path],
    typer.Argument(
        metavar="A B [C]",
        help="Two checkpoints, for the plane through A, B and aligned B; or three, for their own plane.",
    ),
]
Points = Annotated[
    int,
    typer.Option(
        "--points", metavar="N", min=3, max=201, rich_help_panel=_PANEL,
        help="Points along the longer side of the grid.",
    ),
]  # fmt: skip
Picture = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="OUT", rich_help_panel="Output",
        help="The picture: a .png, .svg, .pdf, .pgf (LaTeX) or .html file. "
        "A's name with '.landscape.png' by default.",
    ),
]  # fmt: skip
Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Write every point as a row.", rich_help_panel=_PANEL),
]


@grouped
def landscape(
    inputs: Inputs,
    running: RunningOptions,
    output: Picture = None,
    method: Method = None,
    aligning: AligningOptions = _OPTIONS,
    alignment: options.Alignments = None,
    points: Points = 25,
    drawing: DrawingOptions = _PICTURE,
    csv: Csv = None,
    offline: options.Offline = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Draw the loss on the plane through A, B and aligned B.

    With three checkpoints it is the plane through these, as they are. Every point is a network that is run
    on the data: 1,000 examples unless --limit says more. BatchNorm, if there is any, is re-estimated at
    every point.

    Example:
        deepalign landscape a.pt b.pt --data mnist.npz --normalise standard --activation relu
        deepalign landscape a.pt b.pt c.pt --data mnist.npz --normalise standard -o plane.html
    """
    out = Output("landscape", json=json, quiet=quiet)
    if len(inputs) not in (2, 3):
        raise UsageError("landscape takes two or three checkpoints.", "deepalign landscape A B --data D")
    if running.data is None:
        raise UsageError("landscape runs the networks on data.", "name them: --data mnist.npz")
    settings = make_settings([method] if method else None, aligning, alignment, force=force)
    _check(settings.method, inputs, aligning, alignment, running, method)
    from deepalign_cli.cli.align import default_output
    from deepalign_cli.operations.landscape import LandscapeQuestion, landscape_files, save_view

    picture = output or default_output(inputs[0], "landscape").with_suffix(".png")
    reads = read_files(inputs, running, aligning, alignment)
    how = drawing.drawing("file", ("A", "aligned B", "B") if len(inputs) == 2 else ("A", "B", "C"), _LEAST)
    check_drawing(picture, csv, reads, how, force=force)
    view = LandscapeQuestion(tuple(inputs), settings, running.subject(), tuple(alignment or ()), points)
    with out.stages("aligning") as progress:
        report = landscape_files(view, progress)
    for note in report.notes:
        out.note(note)
    save_view(report, picture, csv, force=force, drawing=how)
    written = [picture, *filter(None, [csv])]
    paths = "\n".join(map(str, written))
    out.result(_payload(report, written), lambda console: _show(console, report, written), paths)


def _check(
    used: str, inputs: list[Path], how: AligningOptions, alignments: list[Path] | None,
    running: RunningOptions, method: str | None,
) -> None:  # fmt: skip
    given = {"method": method, "alignment": alignments or None, **vars(how)}
    idle = [name for name, value in given.items() if value is not None and name not in ("spec", "activation")]
    if len(inputs) == 3 and idle:
        raise UsageError(
            f"three networks are taken as they are, so --{idle[0]} has no effect.",
            "leave it out, or align them first: deepalign align A B C -o aligned/",
        )
    if used == "none":
        raise UsageError(
            "-m none moves nothing, and two networks span no plane.", "take another method, or three inputs."
        )
    if len(inputs) == 2 and len(running.split or ()) > 1:
        raise UsageError("a landscape is of one split of the data.", "give --split once.")
    check_data([] if alignments else [used], how, running, elsewhere=True)


def _payload(report: LandscapeReport, written: Sequence[Path]) -> dict[str, object]:
    found = report.landscape
    return {
        "output": written[0],
        "outputs": written,
        "method": report.method,
        "xs": found.xs,
        "ys": found.ys,
        "losses": found.losses,
        "accuracies": found.accuracies,
        "places": found.places,
        "paths": found.paths,
        "at": report.at,
        "loss": report.loss,
        "data": found.data,
        "seconds": report.seconds,
    }


def _show(console: Console, report: LandscapeReport, written: Sequence[Path]) -> None:
    places = zip(report.landscape.places.items(), report.at.values(), strict=True)
    rows = [[label, number(loss), f"{x:.2f}", f"{y:.2f}"] for (label, (x, y)), loss in places]
    title = f"{report.landscape.data}: {report.loss}"
    console.print(table(["network", "loss", "x", "y"], rows, title))
    ys, xs = report.landscape.losses.shape
    console.print(f"wrote {' and '.join(map(str, written))}: {ys * xs} networks in {report.seconds:.1f} s")
