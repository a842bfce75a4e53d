"""How `deepalign barrier` shows what it measured: tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from deepalign_cli.cli.output import table

if TYPE_CHECKING:
    from deepalign_cli.measure.curve import Curve
    from deepalign_cli.operations.barrier import BarrierReport, PathReport

_LINE = 25  # characters of a sparkline off a terminal, at most

Figure = tuple[str, Callable[["Curve"], float | None], Callable[[float], str]]


def number(value: float) -> str:
    """Four significant digits, and at most four decimals: small barriers differ in nothing that matters."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


# Heading, how it is read off a curve, how it is written.
_FIGURES: Sequence[Figure] = (
    ("barrier", lambda c: c.barrier, number),
    ("AUC", lambda c: c.auc, number),
    ("loss half-way", lambda c: c.midpoint_loss, number),
    ("accuracy half-way", lambda c: c.midpoint_accuracy, _percent),
)
# The same in JSON; DESIGN's names.
_KEYS: Mapping[str, Callable[[Curve], float | None]] = {
    "barrier": lambda c: c.barrier,
    "auc": lambda c: c.auc,
    "auc_clipped": lambda c: c.auc_clipped,
    "error_barrier": lambda c: c.error_barrier,
    "midpoint_loss": lambda c: c.midpoint_loss,
    "midpoint_accuracy": lambda c: c.midpoint_accuracy,
}


def barrier_payload(report: BarrierReport, passed: bool | None) -> dict[str, Any]:
    """The JSON object. `paths` are means over the pairs; `pairs` hold each where there are several."""
    pairs = [path.moving for path in report.of(report.methods[0])]
    payload: dict[str, Any] = {
        "alphas": report.alphas,
        "paths": [_path(report.of(name), place) for place, name in _rows(report)],
        "passed": passed,
        "loss": report.loss,
        "data": report.data,
        "seconds": report.seconds,
    }
    if len(pairs) > 1:
        payload["pairs"] = [
            {"moving": moving, "paths": [_path([report.of(n)[i]], place) for place, n in _rows(report)]}
            for i, moving in enumerate(pairs)
        ]
    if not report.data:
        told = [{name: _layers(report.of(name)[i]) for name in report.methods} for i in range(len(pairs))]
        payload["weights_only"] = told[0]
        for pair, own in zip(payload.get("pairs", ()), told, strict=False):
            pair["weights_only"] = own
    return payload


def csv_text(report: BarrierReport) -> str:
    """Every point of every curve as a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["moving", "data", "method", "alpha", "loss", "accuracy"])
    for path in report.paths:
        for curve in path.curves:
            shares: Sequence[float | None] = curve.accuracies or [None] * len(curve.alphas)
            for alpha, loss, share in zip(curve.alphas, curve.losses, shares, strict=True):
                writer.writerow([path.moving, curve.data, path.name, alpha, loss, share])
    return text.getvalue()


def show_curves(console: Console, report: BarrierReport) -> None:
    """One table a data set, a row a method; means and deviations where there are several pairs."""
    for place, data in enumerate(report.data):
        curves = {name: [path.curves[place] for path in report.of(name)] for name in report.methods}
        shown = [c for group in curves.values() for c in group]
        figures = [f for f in _FIGURES if f[1](shown[0]) is not None]
        several = len(next(iter(curves.values()))) > 1
        last = ["seconds", "loss from A to B" + (", mean" if several else "")]
        headings = ["method", *(heading for heading, _, _ in figures), *last]
        rows = [_row(name, group, figures) for name, group in curves.items()]
        room = _LINE
        if console.is_terminal:
            others = [[*row, ""] for row in rows]
            room = len(last[-1]) + max(0, console.width - table(headings, others).width(console))
        lines = [_line(group, shown, console.encoding, room) for group in curves.values()]
        title = f"{data}: {report.loss}, {len(report.alphas)} points"
        console.print(table(headings, [[*r, line] for r, line in zip(rows, lines, strict=True)], title))


def show_layers(console: Console, report: BarrierReport) -> None:
    """What weights alone tell, layer by layer; of several moving inputs one after the other."""
    console.print("From the weights alone, without data. None of this is a loss: --data measures it.")
    pairs = list(zip(*map(report.of, report.methods), strict=True))
    for paths in pairs:
        _show_pair(console, paths, paths[0].moving if len(pairs) > 1 else None)


def _show_pair(console: Console, paths: Sequence[PathReport], title: str | None) -> None:
    from deepalign_cli.measure.weight_report import variance_kept

    names = [path.name for path in paths]
    rows = [
        [layer.name, name, _short(layer.distance), _short(layer.correlation), _short(layer.variance)]
        for layers in zip(*(path.layers for path in paths), strict=True)
        for name, layer in zip(names, layers, strict=True)
    ]
    console.print(table(["tensor", "method", "distance", "correlation", "variance kept"], rows, title))
    for path in paths:
        before, after = path.distances
        kept = variance_kept(list(path.layers))
        estimate = (
            "no estimate: there is no group of units that could move"
            if kept is None
            else f"estimate: {100 * kept:.1f} % of the variance survives averaging, over all layers"
        )
        console.print(f"{path.name}: distance {before:.4g} -> {after:.4g}; {estimate}")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _row(name: str, group: Sequence[Curve], figures: Sequence[Figure]) -> list[str]:
    cells = [_spread([read(c) for c in group], write) for _, read, write in figures]
    seconds = math.fsum(c.seconds for c in group) / len(group)
    return [name, *cells, f"{seconds:.2f}"]


def _line(group: Sequence[Curve], shown: Sequence[Curve], encoding: str, room: int) -> str:
    from deepalign_cli.plots.sparkline import sparkline

    finite = [loss for curve in shown for loss in curve.losses if math.isfinite(loss)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    mean = [math.fsum(losses) / len(group) for losses in zip(*(c.losses for c in group), strict=True)]
    return sparkline(mean, encoding=encoding, low=low, high=high, width=room)


def _spread(values: Sequence[float | None], write: Callable[[float], str]) -> str:
    from deepalign_cli.measure.curve import mean_and_spread

    known = [v for v in values if v is not None]
    if not known:
        return "-"
    mean, deviation = mean_and_spread(known)
    return write(mean) if len(known) == 1 else f"{write(mean)} +- {write(deviation)}"


def _rows(report: BarrierReport) -> Iterator[tuple[int, str]]:
    for place in range(len(report.data)):
        for name in report.methods:
            yield place, name


def _path(group: Sequence[PathReport], place: int) -> dict[str, Any]:
    from deepalign_cli.measure.curve import mean_and_spread

    curves = [path.curves[place] for path in group]
    columns = list(zip(*(c.losses for c in curves), strict=True))
    made: dict[str, Any] = {
        "method": group[0].name,
        "data": curves[0].data,
        "loss": [math.fsum(column) / len(column) for column in columns],
        "accuracy": _mean_accuracies(curves),
        "seconds": math.fsum(c.seconds for c in curves) / len(curves),
    }
    for key, read in _KEYS.items():
        known = [value for value in map(read, curves) if value is not None]
        mean, deviation = mean_and_spread(known) if known else (None, None)
        made[key] = mean
        if len(curves) > 1:
            made[f"{key}_sd"] = deviation
    if len(group) == 1:
        made |= {"distance_before": group[0].distances[0], "distance_after": group[0].distances[1]}
        keys = ("kept", "why", "unread")
        made |= {key: group[0].details[key] for key in keys if key in group[0].details}
    return made


def _mean_accuracies(curves: Sequence[Curve]) -> list[float] | None:
    known = [c.accuracies for c in curves if c.accuracies is not None]
    if len(known) < len(curves):
        return None
    return [math.fsum(column) / len(column) for column in zip(*known, strict=True)]


def _layers(path: PathReport) -> dict[str, Any]:
    from deepalign_cli.measure.weight_report import variance_kept

    return {
        "distance_before": path.distances[0],
        "distance_after": path.distances[1],
        "variance_kept_estimate": variance_kept(list(path.layers)),
        "layers": [vars(layer) for layer in path.layers],
    }
