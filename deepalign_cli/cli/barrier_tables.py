"""How `deepalign barrier` shows what it measured: tables and JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from deepalign_cli.cli.output import TextTable
from deepalign_cli.cli.resting import resting

if TYPE_CHECKING:
    from deepalign_cli.measure.curve import Curve
    from deepalign_cli.operations.barrier import BarrierReport, PathReport

_LINE = 25  # characters of a sparkline off a terminal, at most


def number(value: float) -> str:
    """Four significant digits, and at most four decimals: small barriers differ in nothing that matters."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


# The figures of a curve by their names in JSON, and the headings of those in the table.
_KEYS = ("barrier", "auc", "auc_clipped", "error_barrier", "midpoint_loss", "midpoint_accuracy")
_HEADINGS: dict[str, tuple[str, Callable[[float], str]]] = {
    "barrier": ("barrier", number),
    "auc": ("AUC", number),
    "midpoint_loss": ("midpoint loss", number),
    "midpoint_accuracy": ("midpoint accuracy", _percent),
}


def barrier_payload(report: BarrierReport, passed: bool | None) -> dict[str, Any]:
    """The JSON object. `paths` are means over the pairs; `pairs` hold each where there are several."""
    groups = {name: report.of(name) for name in report.methods}
    places = range(len(report.data))
    payload: dict[str, Any] = {
        "alphas": report.alphas,
        "paths": [_path(group, place) for place in places for group in groups.values()],
        "passed": passed,
        "loss": report.loss,
        "data": report.data,
        "seconds": report.seconds,
        **resting(report.spec),
    }
    pairs = list(zip(*groups.values(), strict=True))
    if len(pairs) > 1:
        payload["pairs"] = [
            {"moving": pair[0].moving, "paths": [_path([one], place) for place in places for one in pair]}
            for pair in pairs
        ]
    if not report.data:
        payload["weights_only"] = _layers(pairs[0])
        for entry, pair in zip(payload.get("pairs", ()), pairs, strict=False):
            entry["weights_only"] = _layers(pair)
    return payload


def show_curves(console: Console, report: BarrierReport) -> None:
    """One table a data set, a row a method; means and deviations where there are several pairs."""
    for place, data in enumerate(report.data):
        groups = {name: [path.curves[place] for path in report.of(name)] for name in report.methods}
        curves = [curve for group in groups.values() for curve in group]
        keys = [key for key in _HEADINGS if getattr(curves[0], key) is not None]
        last = "loss from A to B" + (", mean" if len(curves) > len(groups) else "")
        headings = ["method", *(_HEADINGS[key][0] for key in keys), "seconds", last]
        rows = [[name, *_cells(group, keys), ""] for name, group in groups.items()]
        room = _LINE
        if console.is_terminal:
            room = len(last) + max(0, console.width - TextTable(headings, rows).width(console))
        for row, group in zip(rows, groups.values(), strict=True):
            row[-1] = _line(group, curves, console.encoding, room)
        console.print(TextTable(headings, rows, f"{data}: {report.loss}, {len(report.alphas)} points"))


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
    console.print(TextTable(["tensor", "method", "distance", "correlation", "variance kept"], rows, title))
    for path in paths:
        before, after = path.distances
        share = variance_kept(list(path.layers))
        estimate = "no estimate: there is no group of units that could move"
        if share is not None:
            estimate = f"estimate: {100 * share:.1f} % of the variance survives averaging, over all layers"
        console.print(f"{path.name}: distance {before:.4g} -> {after:.4g}; {estimate}")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _cells(group: Sequence[Curve], keys: Sequence[str]) -> list[str]:
    cells = []
    for key in keys:
        write, (mean, deviation) = _HEADINGS[key][1], _spread(group, key)
        spread = f" +- {write(deviation)}" if deviation is not None else ""
        cells.append("-" if mean is None else f"{write(mean)}{spread}")
    return [*cells, f"{math.fsum(c.seconds for c in group) / len(group):.2f}"]


def _spread(group: Sequence[Curve], key: str) -> tuple[float | None, float | None]:
    """The mean of a figure, as far as it is known, and its deviation where there are several."""
    from deepalign_cli.measure.curve import mean_and_spread

    values = [value for curve in group if (value := getattr(curve, key)) is not None]
    mean, deviation = mean_and_spread(values) if values else (None, None)
    return mean, deviation if len(values) > 1 else None


def _line(group: Sequence[Curve], curves: Sequence[Curve], encoding: str, room: int) -> str:
    """The mean loss as a sparkline, on the scale of all curves."""
    from deepalign_cli.plots.sparkline import sparkline

    finite = [loss for curve in curves for loss in curve.losses if math.isfinite(loss)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return sparkline(_means([c.losses for c in group]), encoding=encoding, low=low, high=high, width=room)


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [math.fsum(column) / len(column) for column in zip(*rows, strict=True)]


def _path(group: Sequence[PathReport], place: int) -> dict[str, Any]:
    curves = [path.curves[place] for path in group]
    accuracies = [curve.accuracies for curve in curves if curve.accuracies is not None]
    entry: dict[str, Any] = {
        "method": group[0].name,
        "data": curves[0].data,
        "loss": _means([curve.losses for curve in curves]),
        "accuracy": _means(accuracies) if len(accuracies) == len(curves) else None,
        "seconds": math.fsum(curve.seconds for curve in curves) / len(curves),
    }
    for key in _KEYS:
        entry[key], deviation = _spread(curves, key)
        if len(curves) > 1:
            entry[f"{key}_sd"] = deviation
    if len(group) == 1:
        entry["distance_before"], entry["distance_after"] = group[0].distances
        entry |= {key: group[0].details[key] for key in ("kept", "why", "unread") if key in group[0].details}
    return entry


def _layers(pair: Sequence[PathReport]) -> dict[str, dict[str, Any]]:
    from deepalign_cli.measure.weight_report import variance_kept

    return {
        path.name: {
            "distance_before": path.distances[0],
            "distance_after": path.distances[1],
            "variance_kept_estimate": variance_kept(list(path.layers)),
            "layers": [vars(layer) for layer in path.layers],
        }
        for path in pair
    }
