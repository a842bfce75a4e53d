"""`deepalign demo`: the main job on shipped checkpoints, nothing to prepare."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from deepalign_cli.cli.barrier_tables import barrier_payload, show_curves
from deepalign_cli.cli.grouped import flag, option
from deepalign_cli.cli.options import OUTPUT, ShowOptions
from deepalign_cli.cli.output import Output, TextTable
from deepalign_cli.errors import MissingExtra

if TYPE_CHECKING:
    from deepalign_cli.operations.demo import DemoResult

_PICTURE = Path("deepalign-demo.png")
LABELS = {"none": "naive average", "deepalign": "average after alignment"}  # in the table and the picture


@dataclass(frozen=True)
class DemoOptions:
    """What is written."""

    output: Path | None = option("The .safetensors file to write.", OUTPUT, short="-o", metavar="OUT")
    plot: Path | None = option(
        f"The picture of the barrier curves: .png, .svg, .pdf, .pgf or .html; {_PICTURE} by default.",
        OUTPUT, metavar="FILE",
    )  # fmt: skip
    force: bool = flag("Overwrite existing files.", OUTPUT)


def demo(*, how: DemoOptions, show: ShowOptions) -> None:
    """Merge two shipped MNIST classifiers and show what alignment is worth.

    Two networks (784-128-128-128-10, ReLU) were trained separately. Their naive average fails; aligned first,
    without data, their average works. The loss along the path from one to the other is drawn. The merged
    network is kept only with -o.

    Example:
        deepalign demo
        deepalign demo --json
    """
    out = show.sink("demo")
    from deepalign_cli.operations.demo import run_demo

    picture = _picture(out, how.plot, how.force)
    with out.progress("aligning") as progress:
        result = run_demo(how.output, force=how.force, progress=progress)
    if picture is not None:
        from deepalign_cli.plots import Drawing, save_curves

        drawing, ends = Drawing(labels=LABELS), result.barrier.ends
        save_curves(picture, result.barrier.curves, names=ends, force=how.force, drawing=drawing)
    payload = _payload(result, how.output, picture)
    out.result(payload, lambda console: _show(console, result, picture), how.output)


def _picture(out: Output, plot: Path | None, force: bool) -> Path | None:
    """Where to draw: nowhere if the default picture exists already, or cannot be drawn."""
    from deepalign_cli.plots import check_plot

    if plot is None and _PICTURE.exists() and not force:
        out.note(f"{_PICTURE} exists already and is left as it is; --force overwrites it")
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
    report = result.report
    before, after = report.distances[0]
    return {
        "accuracy": result.accuracies, "images": result.images, "output": output, "method": report.method,
        "seconds": report.seconds, "distance_before": before, "distance_after": after,
        "groups": report.groups,
        "barrier": barrier_payload(result.barrier, None),
        "plot": picture,
    }  # fmt: skip


def _show(console: Console, result: DemoResult, picture: Path | None) -> None:
    labels = {
        "a": "A, trained with seed 0", "b": "B, trained with seed 1", "naive": LABELS["none"],
        "merged": LABELS["deepalign"],
    }  # fmt: skip
    rows = [[labels[key], f"{100 * share:.1f} %"] for key, share in result.accuracies.items()]
    console.print(TextTable(["network", "accuracy"], rows))
    report, (before, after) = result.report, result.report.distances[0]
    console.print(
        f"{result.images} held-out digits; aligned by {report.method} in {report.seconds:.2f} s: "
        f"{report.alignments[0].moved} units moved, distance {before:.1f} -> {after:.1f}\n"
    )
    show_curves(console, result.barrier)
    if picture is not None:
        console.print(f"wrote {picture}")
