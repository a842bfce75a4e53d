"""`landscape`: the plane through three networks, aligned on the fly, and the loss on it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.errors import UsageError
from deepalign_cli.measure.plane import Landscape, Plane, measure_landscape
from deepalign_cli.operations.barrier import Question, check_same_function, write_csv
from deepalign_cli.operations.session import Session
from deepalign_cli.plots import save_landscape
from deepalign_cli.plots.drawing import PLAIN, Drawing
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import is_statistic

_EXAMPLES = 1000
_ALIGNING = 0.3  # of the work
SETTLED = "BatchNorm was re-estimated on training examples at every point"


@dataclass(frozen=True)
class LandscapeReport:
    """The landscape, and the loss `at` each of three networks; without a method there is no `spec`."""

    landscape: Landscape
    at: Mapping[str, float]
    method: str | None
    loss: str
    seconds: float
    notes: tuple[str, ...]
    spec: Spec | None = None

    @property
    def rows(self) -> Iterator[tuple[object, ...]]:
        """Every point: x, y, the loss and the accuracy."""
        grid = self.landscape
        for i, y in enumerate(grid.ys):
            for j, x in enumerate(grid.xs):
                accuracy = None if grid.accuracies is None else float(grid.accuracies[i, j])
                yield x, y, float(grid.losses[i, j]), accuracy


def landscape_files(question: Question, progress: Progress = SILENT) -> LandscapeReport:
    """Align where there are two inputs, by the method of the settings, and measure the plane.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another; they span no plane.
    """
    running = replace(question.running, limit=question.running.limit or _EXAMPLES)
    how = (question.settings, running, question.alignments)
    return landscape_of(Session(question.inputs, *how, measured=True), question.points, progress)


def landscape_of(session: Session, points: int = 25, progress: Progress = SILENT) -> LandscapeReport:
    """The same for inputs that are open.

    Raises:
        UsageError: there are no data. DeepalignError: as `landscape_files`.
    """
    started, testbed = time.perf_counter(), session.testbed
    if testbed is None:
        raise UsageError("landscape needs data to run the networks on.", "add --data mnist.npz")
    is_aligned = len(session.inputs) == 3 or session.is_aligned(session.settings.method)
    aligning = progress.part(0.0 if is_aligned else _ALIGNING, "aligning")
    labels, corners, lines, alignment = _corners(session, aligning)
    examples, data = testbed.repair_data, testbed.sets[0]

    def settle(weights: dict[str, Tensor]) -> Weights:
        return testbed.settled(weights, examples)

    landscape = measure_landscape(
        testbed.run, Plane.through(*corners), labels, data, testbed.measure, points, paths=lines,
        settle=settle, batch_size=testbed.batch_size, progress=progress.part(1.0, "measuring"),
    )  # fmt: skip
    at = {
        label: testbed.tally(settle(dict(corner)), data).mean
        for label, corner in zip(labels, corners, strict=True)
    }
    if alignment:
        steady = partial(testbed.check_steady, corners[2])
        check_same_function(alignment.method, at[labels[1]], at[labels[2]], steady)
    notes = [*(note for one in session.inputs for note in one.notes), *testbed.says]
    notes += [SETTLED] if any(map(is_statistic, session.reference)) else []
    notes += alignment.notes if alignment else []
    seconds = time.perf_counter() - started
    method = alignment.method if alignment else None
    return LandscapeReport(
        landscape, at, method, testbed.measure.name, seconds, tuple(dict.fromkeys(notes)),
        alignment.symmetry.spec if alignment else None,
    )  # fmt: skip


def save_view(
    report: LandscapeReport, picture: Path, csv: Path | None, *, force: bool, drawing: Drawing = PLAIN
) -> None:
    """Draw the landscape, and write its points as rows.

    Raises:
        OutputError: a file cannot be written.
    """
    save_landscape(picture, report.landscape, force=force, drawing=drawing)
    if csv is not None:
        write_csv(csv, ("x", "y", "loss", "accuracy"), report.rows, force=force)


Corners = tuple[Weights, Weights, Weights]


def _corners(
    session: Session, progress: Progress
) -> tuple[tuple[str, str, str], Corners, list[tuple[str, str]], Alignment | None]:
    """Labels, weights, the straight paths to draw, and the alignment of the second where it is found."""
    names = [checkpoint.called for checkpoint in session.inputs]
    a, b, *others = map(dict, session.inputs)
    alignment = None
    if others:
        session.check_finite()
        labels = (f"A: {names[0]}", f"B: {names[1]}", f"C: {names[2]}")
        corners: Corners = (a, b, others[0])
    else:
        alignment = session.alignments(progress=progress)[0]
        labels = (f"A: {names[0]}", f"aligned B: {names[1]}", "B as it is")
        corners = (a, dict(alignment.apply(b)), b)
    return labels, corners, [(labels[0], labels[1]), (labels[0], labels[2])], alignment
