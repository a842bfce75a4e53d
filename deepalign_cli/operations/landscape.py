"""`landscape`: the plane through three networks, aligned on the fly, and the loss on it."""

from __future__ import annotations

import csv as csv_format
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.errors import UsageError
from deepalign_cli.measure.paths import Tally, tally
from deepalign_cli.measure.plane import Landscape, Plane, measure_landscape
from deepalign_cli.operations.barrier import check_same_function
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import Settings
from deepalign_cli.plots import save_landscape
from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import is_statistic

_EXAMPLES = 1000
_ALIGNING = 0.3  # of the work
SETTLED = "BatchNorm was re-estimated on training examples at every point"


@dataclass(frozen=True)
class LandscapeQuestion:
    """What is to be drawn: two inputs, of which the second is aligned and shown too, or three as they are."""

    inputs: tuple[Path, ...]
    settings: Settings = field(default_factory=Settings)
    running: RunSettings = field(default_factory=RunSettings)
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


def landscape_files(view: LandscapeQuestion, progress: Progress = SILENT) -> LandscapeReport:
    """Align where there are two inputs, and measure the plane.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another; they span no plane.
    """
    opened = [open_network(path) for path in view.inputs]
    running = replace(view.running, limit=view.running.limit or _EXAMPLES)
    session = Session(opened, view.settings, running, view.alignments, measured=True)
    return landscape_of(session, view.points, progress)


def landscape_of(session: Session, points: int = 25, progress: Progress = SILENT) -> LandscapeReport:
    """The same for inputs that are open.

    Raises:
        UsageError: there are no data. DeepalignError: as `landscape_files`.
    """
    started, testbed = time.perf_counter(), session.testbed
    if testbed is None:
        raise UsageError("landscape runs the networks on data.", "add --data mnist.npz")
    labels, corners, lines, alignment = _corners(session, progress.part(_ALIGNING, "aligning"))
    seen = testbed.repair_data

    def settle(weights: dict[str, Tensor]) -> Weights:
        return testbed.settled(weights, seen)

    data = testbed.sets[0]
    landscape = measure_landscape(
        testbed.run, Plane.through(*corners), labels, data, testbed.measure, points, paths=lines,
        settle=settle, batch_size=testbed.batch_size, progress=progress.part(1.0, "measuring"),
    )  # fmt: skip
    at = {}
    for label, corner in zip(labels, corners, strict=True):
        total = Tally()
        batches = list(data.batches(testbed.batch_size))
        tally(testbed.run, settle(dict(corner)), batches, testbed.measure, total)
        at[label] = total.mean
    if alignment:
        check_same_function(alignment.method, at[labels[1]], at[labels[2]])
    notes = [*(note for one in session.inputs for note in one.notes), *testbed.says]
    notes += [SETTLED] if any(map(is_statistic, session.reference)) else []
    notes += alignment.remarks if alignment else []
    seconds = time.perf_counter() - started
    method = alignment.method if alignment else None
    return LandscapeReport(landscape, at, method, testbed.measure.name, seconds, tuple(dict.fromkeys(notes)))


def save_view(
    report: LandscapeReport, picture: Path, csv: Path | None, *, force: bool, drawing: Drawing = PLAIN
) -> None:
    """Draw the landscape, and write its points as rows.

    Raises:
        OutputError: a file cannot be written.
    """
    save_landscape(picture, report.landscape, force=force, drawing=drawing)
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
    session: Session, progress: Progress
) -> tuple[tuple[str, str, str], Corners, list[tuple[str, str]], Alignment | None]:
    """Labels, weights, the straight paths to draw, and the alignment of the second where it is found."""
    a, b = map(dict, session.inputs[:2])
    if len(session.inputs) == 3:
        session.check_finite()
        labels = _labels([one.called for one in session.inputs])
        return labels, (a, b, dict(session.inputs[2])), [(labels[0], labels[1]), (labels[0], labels[2])], None
    alignment = session.alignments(progress=progress)[0]
    name_a, name_b = (one.called for one in session.inputs)
    labels = (f"A: {name_a}", f"aligned B: {name_b}", "B as it is")
    lines = [(labels[0], labels[1]), (labels[0], labels[2])]
    return labels, (a, dict(alignment.apply(b)), b), lines, alignment


def _labels(names: Sequence[str]) -> tuple[str, str, str]:
    a, b, c = (f"{letter}: {name}" for letter, name in zip("ABC", names, strict=True))
    return a, b, c
