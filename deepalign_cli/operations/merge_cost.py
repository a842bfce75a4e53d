"""What a merge costs, for its card: the network that is written, its parents, and the path between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from deepalign_cli.combiners import table as combiners
from deepalign_cli.measure.curve import Curve
from deepalign_cli.measure.paths import Along
from deepalign_cli.operations.barrier import REPAIRED, Question, barrier_of
from deepalign_cli.operations.merge import Merge, Merging
from deepalign_cli.operations.testbed import Testbed
from deepalign_cli.progress import SILENT, Progress

MERGED = "the merged network"


@dataclass(frozen=True)
class Measured:
    """One network's loss, and its accuracy (0 to 1) where there are labels, on some data."""

    name: str
    data: str
    loss: float
    accuracy: float | None


@dataclass(frozen=True)
class Cost:
    """Every network measured, the merged one last; and of two inputs the curves along their path."""

    networks: tuple[Measured, ...]
    curves: tuple[Curve, ...] = ()
    ends: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()


def cost_of(merge: Merge, testbed: Testbed, progress: Progress = SILENT) -> Cost:
    """Measure the very network that is written (its weights, combiner and repair), and where it lies.

    Raises:
        LossError: a loss is not finite. DeepalignError: the networks and the data do not fit one another.
    """
    session, merging = merge.session, merge.merging
    parents = {checkpoint.called: checkpoint for checkpoint in session.inputs}
    measured = measured_networks(testbed, [*parents.items(), (MERGED, merge.tensors)])
    is_line = not (merging.has_base or merging.rules or merging.row.encodes)
    has_path = len(session.inputs) == 2 and is_line and session.fit.vocabulary is None
    if not has_path:
        return Cost(measured, notes=tuple(testbed.says))
    question = Question((), (session.settings.method,), alignments=session.saved, repair=bool(merge.repair))
    report = barrier_of(session, question, progress, _along(merging))
    report.check_finite()
    method = report.methods[-1].removesuffix(REPAIRED)  # the only one
    notes = tuple(note.removeprefix(f"{method}: ") for note in report.notes)
    return Cost(measured, tuple(report.curves), report.ends, notes)


def measured_networks(
    testbed: Testbed, networks: Sequence[tuple[str, Mapping[str, Tensor]]]
) -> tuple[Measured, ...]:
    """Each network's loss on the first of the sets. Raises LossError, DeepalignError as `cost_of`."""
    data, measured = testbed.sets[0], []
    for name, weights in networks:
        total = testbed.tally(dict(weights), data)
        measured.append(Measured(name, data.name, total.mean, total.accuracy))
    return tuple(measured)


def _along(merging: Merging) -> Along | None:
    """The path of a combiner of two networks; None for the straight line."""
    if merging.combiner == combiners.DEFAULT:
        return None
    return lambda alpha: merging.with_weights((1 - alpha, alpha))
