"""`deepalign demo`: the main job on shipped checkpoints, nothing to prepare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deepalign_cli.cli import options
from deepalign_cli.cli.barrier_tables import barrier_payload, show_curves
from deepalign_cli.cli.output import Output, table
from deepalign_cli.errors import MissingExtra

if TYPE_CHECKING:
    from deepalign_cli.operations.demo import DemoResult

_PICTURE = Path("deepalign-demo.png")
LABELS = {"none": "naive average", "deepalign": "average after alignment"}  # in the table and the picture

Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", rich_help_panel="Output",
        help=f"The picture of the barrier curves: .png, .svg, .pdf, .pgf or .html; {_PICTURE} by default.",
    ),
]  # fmt: skip


def demo(
    output: options.OutputPath = None,
    plot: Plot = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Merge two shipped MNIST classifiers and show what alignment is worth.

    Two networks (784-128-128-128-10, ReLU) were trained separately. Their naive average fails; aligned first,
    without data, their average works. The loss along the path from one to the other is drawn. The merged
    network is kept only with -o.

    Example:
        deepalign demo
        deepalign demo --json
    """
    out = Output("demo", json=json, quiet=quiet)
    from deepalign_cli.operations.demo import run_demo

    picture = _picture(out, plot, force)
    with out.stages("aligning") as progress:
        result = run_demo(output, force=force, progress=progress)
    if picture is not None:
        from deepalign_cli.plots import Drawing, save_curves

        drawing = Drawing(labels=LABELS)
        save_curves(picture, result.barrier.curves, names=result.barrier.ends, force=force, drawing=drawing)
    out.result(_payload(result, output, picture), lambda console: _show(console, result, picture), output)


def _picture(out: Output, plot: Path | None, force: bool) -> Path | None:
    """Where to draw; nowhere if nobody asked, and it cannot be drawn or would overwrite."""
    from deepalign_cli.plots import check_plot

    if plot is None and _PICTURE.exists() and not force:
        out.note(f"{_PICTURE} is there already and stays as it is; --force draws it anew")
        return None
    try:
        check_plot(plot or _PICTURE, force=force)
    except MissingExtra as missing:
        if plot is not None:
            raise
        out.note(f"there is no picture: {missing.message.removesuffix('.')}: {missing.hint}")
        return None
    return plot or _PICTURE


def _payload(result: DemoResult, output: Path | None, picture: Path | None) -> dict[str, object]:
    return {
        "accuracy": result.accuracies,
        "images": result.images,
        "output": output,
        "method": result.report.method,
        "seconds": result.report.seconds,
        "distance_before": result.report.distances[0][0],
        "distance_after": result.report.distances[0][1],
        "groups": result.report.groups,
        "barrier": barrier_payload(result.barrier, None),
        "plot": picture,
    }


def _show(console: Console, result: DemoResult, picture: Path | None) -> None:
    scores = result.accuracies
    rows = [
        ["A, trained with seed 0", _percent(scores["a"])],
        ["B, trained with seed 1", _percent(scores["b"])],
        [LABELS["none"], _percent(scores["naive"])],
        [LABELS["deepalign"], _percent(scores["merged"])],
    ]
    console.print(table(["network", "accuracy"], rows))
    (before, after), groups = result.report.distances[0], result.report.groups
    moved = sum(row["moved"] for row in groups.values())
    console.print(
        f"{result.images} held-out digits; "
        f"aligned by {result.report.method} in {result.report.seconds:.2f} s: "
        f"{moved} units moved, distance {before:.1f} -> {after:.1f}\n"
    )
    show_curves(console, result.barrier)
    if picture is not None:
        console.print(f"wrote {picture}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
