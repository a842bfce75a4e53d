"""`landscape`: the plane through three networks, aligned on the fly, and the loss on it."""

from __future__ import annotations

import csv as csv_format
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.measure.paths import Tally, tally
from deepalign_cli.measure.plane import Landscape, Plane, measure_landscape
from deepalign_cli.operations.alignments import Found, find_all
from deepalign_cli.operations.barrier import check_same_function
from deepalign_cli.operations.run_settings import Subject
from deepalign_cli.operations.settings import Settings, check_finite, open_network
from deepalign_cli.operations.testbed import Opened, open_subject
from deepalign_cli.plots import save_landscape
from deepalign_cli.symmetry.resolve import check_same_layout
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import is_statistic

_EXAMPLES = 1000
SETTLED = "BatchNorm was re-estimated on training examples at every point"


@dataclass(frozen=True)
class LandscapeQuestion:
    """What is to be drawn: two inputs, of which the second is aligned and shown too, or three as they are."""

    inputs: tuple[Path, ...]
    settings: Settings = field(default_factory=Settings)
    subject: Subject = field(default_factory=Subject)
    alignments: tuple[Path, ...] = ()
    points: int = 25


@dataclass(frozen=True)
class LandscapeReport:
    """The landscape, and the loss `at` each of the three networks; `method` is None where none was used."""

    landscape: Landscape
    at: Mapping[str, float]
    method: str | None
    loss: str
    seconds: float
    notes: tuple[str, ...]


def landscape_files(
    view: LandscapeQuestion, advance: Callable[[float], None] = lambda _: None
) -> LandscapeReport:
    """Align where there are two inputs, and measure the plane.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another; they span no plane.
    """
    started = time.perf_counter()
    opened = [open_network(path) for path in view.inputs]
    asked = replace(view.subject, limit=view.subject.limit or _EXAMPLES)
    subject = open_subject(opened[0], asked, view.settings.activation)
    labels, corners, paths, found = _corners(view, opened, subject)
    seen = subject.repair_data

    def settle(weights: dict[str, Tensor]) -> Weights:
        return subject.settled(weights, seen)

    data = subject.sets[0]
    landscape = measure_landscape(
        subject.run, Plane.through(*corners), labels, data, subject.measure, view.points,
        paths=paths, settle=settle, batch_size=subject.batch_size, advance=advance,
    )  # fmt: skip
    at = {}
    for label, corner in zip(labels, corners, strict=True):
        total = Tally()
        tally(
            subject.run, settle(dict(corner)), list(data.batches(subject.batch_size)), subject.measure, total
        )
        at[label] = total.mean
    if found:
        check_same_function(found.method, at[labels[1]], at[labels[2]])
    notes = [*(note for one in opened for note in one.notes), *subject.says]
    notes += [SETTLED] if any(map(is_statistic, opened[0])) else []
    notes += found.notes() if found else []
    seconds = time.perf_counter() - started
    method = found.method if found else None
    return LandscapeReport(landscape, at, method, subject.measure.name, seconds, tuple(dict.fromkeys(notes)))


def save_view(report: LandscapeReport, picture: Path, csv: Path | None, *, force: bool) -> None:
    """Draw the landscape, and write its points as rows.

    Raises:
        OutputError: a file cannot be written.
    """
    save_landscape(picture, report.landscape, force=force)
    if csv is None:
        return
    text, found = io.StringIO(), report.landscape
    writer = csv_format.writer(text, lineterminator="\n")
    writer.writerow(["x", "y", "loss", "accuracy"])
    for i, y in enumerate(found.ys):
        for j, x in enumerate(found.xs):
            share = None if found.accuracies is None else float(found.accuracies[i, j])
            writer.writerow([x, y, float(found.losses[i, j]), share])
    write_bytes(csv, text.getvalue().encode(), force=force)


Corners = tuple[Weights, Weights, Weights]


def _corners(
    view: LandscapeQuestion, opened: Sequence[Checkpoint], subject: Opened
) -> tuple[tuple[str, str, str], Corners, list[tuple[str, str]], Found | None]:
    """Labels, weights, the straight paths to draw, and the alignment of the second where it is found."""
    a, b = map(dict, opened[:2])
    if len(opened) == 3:
        for other in opened[1:]:
            check_same_layout(opened[0], other)
        for checkpoint in opened:
            check_finite(checkpoint)
        labels = _labels([one.called for one in opened])
        return labels, (a, b, dict(opened[2])), [(labels[0], labels[1]), (labels[0], labels[2])], None
    found = find_all(opened[0], opened[1:], view.settings, view.alignments, subject.evidence)[0]
    moved = found.symmetry.apply(found.element, b)
    name_a, name_b = opened[0].called, opened[1].called
    labels = (f"A: {name_a}", f"aligned B: {name_b}", "B as it is")
    return labels, (a, moved, b), [(labels[0], labels[1]), (labels[0], labels[2])], found


def _labels(names: Sequence[str]) -> tuple[str, str, str]:
    a, b, c = (f"{letter}: {name}" for letter, name in zip("ABC", names, strict=True))
    return a, b, c
