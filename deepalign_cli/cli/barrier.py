"""`deepalign barrier`: what a merge costs, along the whole way from A to aligned B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from deepalign_cli.aligners.methods import DEFAULT
from deepalign_cli.cli import grouped
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.barrier_tables import barrier_payload, show_curves, show_layers
from deepalign_cli.cli.figures import DrawingOptions, check_drawing, read_files
from deepalign_cli.cli.options import Inputs, WriteOptions
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import Methods
from deepalign_cli.errors import BarrierExceeded, UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.barrier import BarrierReport
    from deepalign_cli.plots import Drawing

_COLUMNS = ("moving", "data", "method", "alpha", "loss", "accuracy")
_PANEL, _TERMINAL, _POINTS = "The curve", Path("-"), 25
option, flag = partial(grouped.option, panel=_PANEL), partial(grouped.flag, panel=_PANEL)


@dataclass(frozen=True)
class CurveOptions:
    """What is measured, and where it is drawn and written."""

    repair: bool = flag(
        "Repair every network along the path on training examples: BatchNorm is re-estimated; other layers "
        "get statistics between those of their parents (REPAIR)."
    )
    points: int = option("Points from A to B.", default=_POINTS, min=3, max=1001)
    pool: bool = flag(
        "Pool earlier results: the inputs are files that --json printed. All their pairs are shown as one, "
        "with means, deviations and bands."
    )
    plot: Path | None = option(
        "Draw the curves: to a .png, .svg, .pdf, .pgf (LaTeX) or .html file, or - to the terminal.",
        metavar="FILE|-",
    )
    csv: Path | None = option("Write every point as a row.", metavar="FILE")
    max_barrier: float | None = option(
        "Exit with 4 if the barrier of a requested method is above X, on any of the data.", min=0.0
    )

    @property
    def picture(self) -> Path | None:
        """The file to draw to."""
        return None if self.plot == _TERMINAL else self.plot

    @property
    def written(self) -> list[Path]:
        """The files to write."""
        return [path for path in (self.picture, self.csv) if path is not None]

    def check(
        self, out: Output, reads: Sequence[Path], drawing: Drawing, *, force: bool,
        dreams: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        """Refuse, before any work, what could not be written or drawn in the end."""
        from deepalign_cli.extras import require

        if self.plot == _TERMINAL:
            if out.json or out.quiet:
                raise UsageError("--plot - draws on stdout, which --json and -q keep free.", "name a file.")
            require("plotext", "plot", "a plot in the terminal")
        check_drawing(self.picture, self.csv, reads, drawing, force=force, dreams=dreams)

    def check_losses(self) -> None:
        """Refuse, where there are no data, what needs losses."""
        for name in ("plot", "csv", "max_barrier", "repair"):
            value = getattr(self, name)
            if value is not None and value is not False:
                raise UsageError(f"{grouped.dashed(name)} needs losses.", "add --data mnist.npz")


def barrier(
    inputs: Inputs, *, running: RunningOptions, method: Methods = None, aligning: AligningOptions,
    curve: CurveOptions, picture: DrawingOptions, common: WriteOptions,
) -> None:  # fmt: skip
    """Show what merging A and B costs: loss and accuracy along the path from A to aligned B.

    The barrier is how far the loss rises above the straight line between the ends; at 0 every merge is as
    good as its parents. More inputs are all aligned to A, and figures are means over the pairs. Without
    --data no loss is measured: the report then says what the weights alone tell.

    Example:
        deepalign barrier a.pt b.pt --activation relu --data mnist.npz --normalise standard --plot curve.png
        deepalign barrier a.pt b.pt --data mnist.npz -m weights -m deepalign --split test --split train
        deepalign barrier a.pt b.pt --data mnist.npz --max-barrier 0.1 -q
        deepalign barrier --pool seed1.json seed2.json seed3.json --plot seeds.pdf
    """
    out = common.sink("barrier")
    reads, force = read_files(inputs, running, aligning), common.force
    methods = list(method or [DEFAULT])
    has_names = picture.label and not (curve.pool or aligning.alignment)
    kind = "terminal" if curve.plot == _TERMINAL else "file" if curve.plot else ""
    names = _names(methods, repair=curve.repair) if has_names else []
    drawing = picture.drawing(kind, names, 1 + 1.6 * len(running.split or [""]))
    if curve.pool:
        _check_pool(running, method, aligning, curve)
        curve.check(out, reads, drawing, force=force)
        from deepalign_cli.operations.pooled import pooled_report

        report = pooled_report(inputs)
    else:
        if len(inputs) < 2:
            raise UsageError("barrier needs at least two checkpoints.", "deepalign barrier A B --data D")
        settings = make_settings(method, aligning, force=force)
        check_data(methods, aligning, running, elsewhere=True)
        if running.data is None:
            curve.check_losses()
        from deepalign_cli.operations.barrier import Question, barrier_files

        subject = running.subject()
        question = Question(
            tuple(inputs), tuple(methods), settings, subject, tuple(aligning.alignment or ()),
            curve.points, curve.repair,
        )  # fmt: skip
        curve.check(out, reads, drawing, force=force, dreams=subject.dreams_in)
        with out.progress("aligning") as progress:
            report = barrier_files(question, progress)
    _write(out, report, curve, drawing, force=force)
    report.check_finite()
    if curve.max_barrier is not None and report.worst > curve.max_barrier:
        problem = f"the barrier is {report.worst:.4g}, above --max-barrier {curve.max_barrier:g}."
        raise BarrierExceeded(problem, "look at the curve: --plot curve.png")


def _names(methods: Sequence[str], *, repair: bool) -> list[str]:
    """What the curves will be called."""
    from deepalign_cli.operations.barrier import REPAIRED
    from deepalign_cli.operations.settings import NAIVE

    names = list(dict.fromkeys((NAIVE, *methods)))
    return names + [f"{name}{REPAIRED}" for name in names if repair]


def _check_pool(
    running: RunningOptions, method: list[str] | None, aligning: AligningOptions, curve: CurveOptions
) -> None:
    points = curve.points if curve.points != _POINTS else None
    idle = {"method": method, **vars(aligning), "repair": curve.repair or None, "points": points}
    names = [grouped.dashed(name) for name, value in idle.items() if value is not None]
    names += [name for name in (running.data and "--data", running.first_set()) if name]
    if names:
        raise UsageError(f"--pool runs nothing, so {names[0]} has no effect.", "leave it out.")


def _write(out: Output, report: BarrierReport, curve: CurveOptions, drawing: Drawing, *, force: bool) -> None:
    from deepalign_cli.operations.barrier import write_csv
    from deepalign_cli.plots import save_curves

    out.notes(report.notes)
    if curve.picture is not None:
        save_curves(curve.picture, report.curves, names=report.ends, force=force, drawing=drawing)
    if curve.csv is not None:
        write_csv(curve.csv, _COLUMNS, report.rows, force=force)
    passed = None if curve.max_barrier is None else report.worst <= curve.max_barrier
    payload = barrier_payload(report, passed) | ({"outputs": curve.written} if curve.written else {})
    out.result(payload, lambda console: _show(console, report, curve, drawing), *curve.written)


def _show(console: Console, report: BarrierReport, curve: CurveOptions, drawing: Drawing) -> None:
    if not report.data:
        show_layers(console, report)
        return
    show_curves(console, report)
    if curve.plot == _TERMINAL:
        from deepalign_cli.plots.sparkline import has_blocks
        from deepalign_cli.plots.terminal import terminal_plot

        width = console.width if console.is_terminal else 80
        plot = terminal_plot(
            report.curves, width, colour=console.is_terminal and not console.no_color, names=report.ends,
            unicode=has_blocks(console.encoding), drawing=drawing,
        )  # fmt: skip
        console.file.write(f"\n{plot}")
    for path in curve.written:
        console.print(f"wrote {path}")
