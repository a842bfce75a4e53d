"""`deepalign barrier`: what a merge costs, along the whole way from A to aligned B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deepalign_cli.aligners.methods import DEFAULT
from deepalign_cli.cli import options
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.barrier_tables import barrier_payload, csv_text, show_curves, show_layers
from deepalign_cli.cli.figures import DrawingOptions, check_drawing, read_files
from deepalign_cli.cli.grouped import grouped
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import Methods
from deepalign_cli.errors import BarrierExceeded, UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.barrier import BarrierReport
    from deepalign_cli.plots import Drawing

_PANEL = "The curve"
_TERMINAL, _POINTS = Path("-"), 25
_OPTIONS, _PICTURE = AligningOptions(), DrawingOptions()

Points = Annotated[
    int,
    typer.Option(
        "--points", metavar="N", min=3, max=1001, help="Points from A to B.", rich_help_panel=_PANEL
    ),
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair", rich_help_panel=_PANEL,
        help="Repair every network on the way, on training examples: BatchNorm is re-estimated; other "
        "layers get the statistics between their parents' (REPAIR).",
    ),
]  # fmt: skip
Pool = Annotated[
    bool,
    typer.Option(
        "--pool", rich_help_panel=_PANEL,
        help="The inputs are no checkpoints but results of earlier runs, as --json printed them. All their "
        "pairs are shown as one: means, deviations and bands.",
    ),
]  # fmt: skip
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE|-", rich_help_panel=_PANEL,
        help="Draw the curves: to a .png, .svg, .pdf, .pgf (LaTeX) or .html file, or - to the terminal.",
    ),
]  # fmt: skip
Csv = Annotated[
    Path | None,
    typer.Option("--csv", metavar="FILE", help="Write every point as a row.", rich_help_panel=_PANEL),
]
MaxBarrier = Annotated[
    float | None,
    typer.Option(
        "--max-barrier", metavar="X", min=0.0, rich_help_panel=_PANEL,
        help="Exit with 4 if the barrier of a method that was asked for is above X, on any of the data.",
    ),
]  # fmt: skip


@grouped
def barrier(
    inputs: options.Inputs,
    running: RunningOptions,
    method: Methods = None,
    aligning: AligningOptions = _OPTIONS,
    alignment: options.Alignments = None,
    repair: Repair = False,
    points: Points = _POINTS,
    pool: Pool = False,
    plot: Plot = None,
    picture: DrawingOptions = _PICTURE,
    csv: Csv = None,
    max_barrier: MaxBarrier = None,
    offline: options.Offline = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what merging A and B costs: loss and accuracy along the way from A to aligned B.

    The barrier is how far the loss rises above the straight line between the ends; at 0 every merge is as
    good as its parents. More inputs are all aligned to A, and figures are means over the pairs. Without
    --data nothing is measured: what the weights alone tell is shown, and labelled so.

    Example:
        deepalign barrier a.pt b.pt --activation relu --data mnist.npz --normalise standard --plot curve.png
        deepalign barrier a.pt b.pt --data mnist.npz -m weights -m deepalign --split test --split train
        deepalign barrier a.pt b.pt --data mnist.npz --max-barrier 0.1 -q
        deepalign barrier --pool seed1.json seed2.json seed3.json --plot seeds.pdf
    """
    out = Output("barrier", json=json, quiet=quiet)
    reads = read_files(inputs, running, aligning, alignment)
    methods = list(method or [DEFAULT])
    known = picture.label and not (pool or alignment)
    names = _names(methods, repair=repair) if known else []
    kind = "terminal" if plot == _TERMINAL else "file" if plot else ""
    drawing = picture.drawing(kind, names, 1 + 1.6 * len(running.split or [""]))
    if pool:
        idle = {"method": method, "alignment": alignment, **vars(aligning), "repair": repair or None}
        _check_pool(running, idle | {"points": points if points != _POINTS else None})
        _check_outputs(out, plot, csv, reads, drawing, force=force)
        from deepalign_cli.operations.pooled import pooled_report

        report = pooled_report(inputs)
    else:
        if len(inputs) < 2:
            raise UsageError("barrier needs at least two checkpoints.", "deepalign barrier A B --data D")
        settings = make_settings(method, aligning, alignment, force=force)
        _check_data(methods, aligning, running, bool(alignment), plot, csv, max_barrier, repair)
        from deepalign_cli.operations.barrier import Question, barrier_files

        question = Question(
            tuple(inputs), tuple(methods), settings, running.subject(), tuple(alignment or ()), points, repair
        )
        _check_outputs(out, plot, csv, reads, drawing, force=force)
        with out.stages("aligning") as progress:
            report = barrier_files(question, progress)
    for note in report.notes:
        out.note(note)
    _write(report, plot, csv, drawing, force=force)
    passed = None if max_barrier is None else report.worst <= max_barrier
    written = [path for path in (plot, csv) if path not in (None, _TERMINAL)]
    payload = barrier_payload(report, passed) | ({"outputs": written} if written else {})
    paths = "\n".join(map(str, written)) or None
    out.result(payload, lambda console: _show(console, report, plot, drawing, written), paths)
    _judge(report, max_barrier)


def _names(methods: Sequence[str], *, repair: bool) -> list[str]:
    """What the curves will be called."""
    from deepalign_cli.operations.barrier import REPAIRED
    from deepalign_cli.operations.settings import NAIVE

    names = list(dict.fromkeys((NAIVE, *methods)))
    return names + [f"{name}{REPAIRED}" for name in names if repair]


def _check_pool(running: RunningOptions, idle: Mapping[str, object]) -> None:
    given = [f"--{name}" for name, value in idle.items() if value is not None]
    given += [name for name in (running.data and "--data", running.first_given()) if name]
    if given:
        raise UsageError(f"--pool runs nothing, so {given[0]} has no effect.", "leave it out.")


def _check_data(
    methods: list[str], how: AligningOptions, running: RunningOptions, saved: bool,
    plot: Path | None, csv: Path | None, limit: float | None, repair: bool,
) -> None:  # fmt: skip
    check_data([] if saved else methods, how, running, elsewhere=True)
    needing = {"--plot": plot, "--csv": csv, "--max-barrier": limit, "--repair": repair or None}
    named = next((name for name, value in needing.items() if value is not None), None)
    if running.data is None and named:
        raise UsageError(
            f"{named} needs losses, and there are none without data.", "name the data: --data mnist.npz"
        )


def _check_outputs(
    out: Output, plot: Path | None, csv: Path | None, reads: Sequence[Path], drawing: Drawing, *, force: bool
) -> None:
    """Refuse, before any work, what could not be written or drawn in the end."""
    from deepalign_cli.extras import require

    if plot == _TERMINAL:
        if out.json or out.quiet:
            raise UsageError("--plot - draws on stdout, which --json and -q keep free.", "name a file.")
        require("plotext", "plot", "a plot in the terminal")
    check_drawing(plot if plot != _TERMINAL else None, csv, reads, drawing, force=force)


def _write(
    report: BarrierReport, plot: Path | None, csv: Path | None, drawing: Drawing, *, force: bool
) -> None:
    from deepalign_cli.checkpoint.atomic import write_bytes
    from deepalign_cli.plots import save_curves

    if plot is not None and plot != _TERMINAL:
        save_curves(plot, report.curves, names=report.ends, force=force, drawing=drawing)
    if csv is not None:
        write_bytes(csv, csv_text(report).encode(), force=force)


def _show(
    console: Console,
    report: BarrierReport,
    plot: Path | None,
    drawing: Drawing,
    written: Sequence[Path | None],
) -> None:
    if not report.data:
        show_layers(console, report)
        return
    show_curves(console, report)
    if plot == _TERMINAL:
        from deepalign_cli.plots.sparkline import has_blocks
        from deepalign_cli.plots.terminal import terminal_plot

        width = console.width if console.is_terminal else 80
        console.file.write("\n")
        console.file.write(
            terminal_plot(
                report.curves, width, colour=console.is_terminal and not console.no_color, names=report.ends,
                unicode=has_blocks(console.encoding), drawing=drawing,
            )
        )  # fmt: skip
    for path in written:
        console.print(f"wrote {path}")


def _judge(report: BarrierReport, limit: float | None) -> None:
    """Fail where a loss is no number, or a barrier above the limit.

    Raises:
        LossError, BarrierExceeded: so.
    """
    report.check_finite()
    if limit is not None and report.worst > limit:
        raise BarrierExceeded(
            f"the barrier is {report.worst:.4g}, above --max-barrier {limit:g}.",
            "look at the curve: --plot curve.png",
        )
