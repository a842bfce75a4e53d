"""Results that print themselves well, on a terminal and in a notebook."""

from __future__ import annotations

import os
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.errors import MissingExtra
from deepalign_cli.extras import require
from deepalign_cli.measure.curve import Curve, mean_and_spread
from deepalign_cli.operations.barrier import BarrierReport
from deepalign_cli.operations.landscape import LandscapeReport
from deepalign_cli.plots import save_curves, save_landscape


class Picture:
    """An SVG that a notebook shows."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg


class Merged(dict[str, Tensor]):
    """A merged network: its state dict, under the reference's own names, on the CPU.

    `notes` are what the user should know, `alignments` what carried the others onto the reference.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor], alignments: tuple[Alignment, ...], notes: tuple[str, ...]
    ) -> None:
        super().__init__(tensors)
        self.alignments, self.notes = alignments, notes

    def __repr__(self) -> str:
        count = sum(w.numel() for w in self.values())
        networks = f"{len(self.alignments) + 1} networks; " if self.alignments else ""  # none: adapters
        return f"Merged({networks}{len(self)} tensors, {count:,} numbers)"

    def __reduce__(self) -> tuple[Any, ...]:
        """Saved as `nn.Module.state_dict` is, so that `torch.load` reads it without trusting anybody."""
        return OrderedDict, (), None, None, iter(self.items())


class Barrier:
    """What a merge costs: a `Curve` for every method (and pair, and set of data), the naive one first.

    `report` holds everything; `curve` is that of the last method, and its figures are attributes here.
    """

    def __init__(self, report: BarrierReport) -> None:
        self.report = report

    @property
    def curves(self) -> list[Curve]:
        """All curves."""
        return self.report.curves

    @property
    def curve(self) -> Curve:
        """The curve of the last method that was asked for."""
        return self.report.of(self.report.asked[-1])[0].curves[0]

    @property
    def barrier(self) -> float:
        """How far the loss rises above the straight line between its ends."""
        return self.curve.barrier

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: how the networks were run and aligned, and assumptions."""
        return self.report.notes

    def __repr__(self) -> str:
        of = {name: [path.curves[0].barrier for path in self.report.of(name)] for name in self.report.methods}
        figures = ", ".join(f"{name} {mean_and_spread(all_)[0]:.4g}" for name, all_ in of.items())
        return f"Barrier({figures}; {self.report.loss} on {', '.join(self.report.data)})"

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain numbers and lists."""
        return {
            "loss": self.report.loss,
            "data": list(self.report.data),
            "notes": list(self.notes),
            "paths": [_figures(path.moving, curve) for path in self.report.paths for curve in path.curves],
        }

    def to_dataframe(self) -> Any:
        """Every point as a row of a pandas DataFrame. Raises MissingExtra without pandas."""
        pandas = require("pandas", "data", "a data frame")
        rows = [
            {
                "moving": path.moving, "data": curve.data, "method": curve.method, "alpha": alpha,
                "loss": loss, "accuracy": None if curve.accuracies is None else curve.accuracies[i],
            }
            for path in self.report.paths
            for curve in path.curves
            for i, (alpha, loss) in enumerate(zip(curve.alphas, curve.losses, strict=True))
        ]  # fmt: skip
        return pandas.DataFrame(rows)

    def plot(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Picture | None:
        """Draw the curves: to a file (.png, .svg, .pdf or .html), or as a picture that a notebook shows."""
        names = self.report.ends
        if path is not None:
            save_curves(Path(path), self.curves, names=names, **options)
            return None
        return _picture(lambda file: save_curves(file, self.curves, names=names, **options))

    def _repr_html_(self) -> str:
        heads = ("method", "data", "barrier", "midpoint loss", "midpoint accuracy")
        rows = [
            (c.method, c.data, f"{c.barrier:.4f}", f"{c.midpoint_loss:.4f}", _percent(c.midpoint_accuracy))
            for c in self.curves
        ]
        return _with_picture(_table(heads, rows), self)


class LandscapeResult:
    """The loss on a plane through three networks; `report` holds its points."""

    def __init__(self, report: LandscapeReport) -> None:
        self.report = report

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: how the networks were run and aligned, and assumptions."""
        return self.report.notes

    def __repr__(self) -> str:
        at = ", ".join(f"{name} {loss:.4g}" for name, loss in self.report.at.items())
        return f"Landscape({at}; {self.report.loss} on {self.report.landscape.data})"

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain numbers and lists."""
        grid = self.report.landscape
        accuracies = None if grid.accuracies is None else grid.accuracies.tolist()
        places = {name: list(place) for name, place in grid.places.items()}
        return {
            "xs": list(grid.xs), "ys": list(grid.ys), "losses": grid.losses.tolist(),
            "accuracies": accuracies, "places": places, "at": dict(self.report.at),
            "loss": self.report.loss, "data": grid.data, "notes": list(self.notes),
        }  # fmt: skip

    def plot(self, path: str | os.PathLike[str] | None = None, **options: Any) -> Picture | None:
        """Draw the plane: to a file (.png, .svg, .pdf or .html), or as a picture that a notebook shows."""
        if path is not None:
            save_landscape(Path(path), self.report.landscape, **options)
            return None
        return _picture(lambda file: save_landscape(file, self.report.landscape, **options))

    def _repr_html_(self) -> str:
        rows = [(name, f"{loss:.4f}") for name, loss in self.report.at.items()]
        return _with_picture(_table(("network", self.report.loss), rows), self)


def _figures(moving: str, curve: Curve) -> dict[str, Any]:
    return {
        "moving": moving, "method": curve.method, "data": curve.data, "alphas": list(curve.alphas),
        "losses": list(curve.losses), "accuracies": curve.accuracies and list(curve.accuracies),
        "barrier": curve.barrier, "auc": curve.auc, "midpoint_loss": curve.midpoint_loss,
        "midpoint_accuracy": curve.midpoint_accuracy, "seconds": curve.seconds,
    }  # fmt: skip


def _picture(save: Any) -> Picture:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.svg"
        save(file)
        text = file.read_text(encoding="utf-8")
        return Picture(text[text.index("<svg") :])  # what comes before has no place inside a page


def _with_picture(table: str, result: Barrier | LandscapeResult) -> str:
    """The table, and the picture where matplotlib is installed."""
    try:
        picture = result.plot()
    except MissingExtra:
        return table
    return f"{table}{picture.svg if picture else ''}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [f"<tr>{''.join(f'<th>{escape(h)}</th>' for h in heads)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"
