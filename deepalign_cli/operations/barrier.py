"""`barrier`: align on the fly or as saved, and measure the loss along the path from A to aligned B."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from torch import Tensor

from deepalign_cli.aligners import methods
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import check_hashes, measured_for
from deepalign_cli.aligners.methods import METHODS, DataUse
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.errors import LossError, SpecError
from deepalign_cli.measure.curve import Curve, mean_and_spread
from deepalign_cli.measure.paths import Along, Correct, NetworkPath, alphas_of, measure
from deepalign_cli.measure.weight_report import LayerReport, weight_report
from deepalign_cli.operations.repairs import frozen_note
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import NAIVE, Settings
from deepalign_cli.operations.testbed import SEEN, Testbed
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.repair import Correction, measure_parents, repair
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import is_statistic

SAVED = "saved"  # what alignments from files are called where their methods differ
REPAIRED = " + repair"
_ROUNDING = 1e-3
_ALIGNING = 0.5  # of the work; how long measuring takes depends on the data
STATISTICS_HINT = (
    "the statistics of BatchNorm are averaged along the path, which overstates the barrier; "
    "--repair re-estimates them"
)
ENDS = (
    "BatchNorm is re-estimated all along repaired paths, also at their ends, which may therefore differ from "
    "the stored parents"
)
_CACHE = 256 * 2**20  # bytes of repaired tensors that all pieces and sets of data share


@dataclass(frozen=True)
class Question:
    """What is asked: the inputs (all are moved onto the first), the methods, and what they are run on.

    `settings` hold for every method. `alignments` are saved ones, one for each moving input, and take the
    place of the methods.
    """

    inputs: tuple[Path, ...]
    methods: tuple[str, ...] = (methods.DEFAULT,)
    settings: Settings = field(default_factory=Settings)
    running: RunSettings = field(default_factory=RunSettings)
    alignments: tuple[Path, ...] = ()
    points: int = 25
    repair: bool = False


@dataclass(frozen=True)
class PathReport:
    """One path to one moving input: a curve for each set of data, or, without data, a report on the weights.

    `name` is the method's; `details` is what the aligner tells of its work.
    """

    moving: str
    name: str
    curves: tuple[Curve, ...]
    distances: tuple[float, float]
    layers: tuple[LayerReport, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class BarrierReport:
    """All paths of all pairs.

    `loss` says what was measured, `data` on what (nothing where there is none), `asked` which methods the
    user named, `ends` what the first and the last point of the curves are (None where runs are pooled),
    `examples` how many each of the data has. `spec` says what may move.
    """

    paths: tuple[PathReport, ...]
    alphas: tuple[float, ...]
    loss: str | None
    data: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...]
    asked: tuple[str, ...]
    ends: tuple[str, str] | None
    examples: tuple[int, ...]
    spec: Spec | None = None

    @property
    def methods(self) -> list[str]:
        """The names of the methods, the naive one first."""
        return list(dict.fromkeys(path.name for path in self.paths))

    @property
    def curves(self) -> list[Curve]:
        """All curves."""
        return [curve for path in self.paths for curve in path.curves]

    @property
    def worst(self) -> float:
        """The greatest mean barrier of a method that was asked for, on any of the data."""
        means = [
            mean_and_spread([path.curves[place].barrier for path in self.of(name)])[0]
            for name in self.asked
            for place in range(len(self.data))
        ]
        return math.nan if any(map(math.isnan, means)) else max(means)

    @property
    def rows(self) -> Iterator[tuple[object, ...]]:
        """Every point: the moving input, the data, the method, alpha, the loss and the accuracy."""
        for path in self.paths:
            for curve in path.curves:
                accuracies = curve.accuracies or (None,) * len(curve.alphas)
                for point in zip(curve.alphas, curve.losses, accuracies, strict=True):
                    yield path.moving, curve.data, path.name, *point

    def check_finite(self) -> None:
        """Check that every loss is finite.

        Raises:
            LossError: one is not; the first is named.
        """
        for curve in self.curves:
            if not curve.is_finite:
                alpha = curve.alphas[curve.peak]
                hint = "try --repair, or check the parents' losses: the merged network overflows there."
                if alpha in (0, 1):
                    hint = "check the loss of that parent, and --loss if it is your own."
                problem = f"the loss of '{curve.method}' is not finite at alpha {alpha:.3g} on {curve.data}."
                raise LossError(problem, hint)

    def of(self, name: str) -> list[PathReport]:
        """The paths of one method, one for each pair."""
        return [path for path in self.paths if path.name == name]


def barrier_files(question: Question, progress: Progress = SILENT) -> BarrierReport:
    """Measure the paths from the reference to every moved input; the naive path is always among them.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another.
    """
    how = (question.settings, question.running, question.alignments)
    return barrier_of(Session(question.inputs, *how, measured=True), question, progress)


def barrier_of(
    session: Session, question: Question, progress: Progress = SILENT, along: Along | None = None
) -> BarrierReport:
    """The same for inputs that are open; `along` says what the path of two is where it is not straight.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another.
    """
    started, testbed = time.perf_counter(), session.testbed
    share = 0.0 if all(map(session.is_aligned, question.methods)) else _ALIGNING
    alignments = dict(_aligned(session, question, progress.part(share if testbed else 1.0, "aligning")))
    measuring = progress.part(1.0, "measuring")
    reports: list[PathReport] = []
    for place, moving in enumerate(session.moving):
        pair = {name: each[place] for name, each in alignments.items()}
        if testbed is None:
            reports += [_by_weights(session.reference, moving, name, one) for name, one in pair.items()]
        else:
            paths = _Paths(testbed, dict(session.reference), dict(moving), question, along)
            reports += paths.measured(moving.called, pair, measuring.part(1 / len(session.moving)))
    asked = list(alignments)[-1:] if question.alignments else question.methods
    others = [checkpoint.called for checkpoint in session.moving]
    sets = testbed.sets if testbed else ()
    return BarrierReport(
        tuple(reports), alphas_of(question.points) if testbed else (),
        testbed.measure.name if testbed else None, tuple(data.name for data in sets),
        time.perf_counter() - started, _notes(session, alignments, question),
        tuple(f"{name}{REPAIRED if question.repair else ''}" for name in asked),
        (session.reference.called, others[0] if len(others) == 1 else f"{len(others)} networks"),
        tuple(map(len, sets)), next(iter(alignments.values()))[0].symmetry.spec,
    )  # fmt: skip


def _aligned(
    session: Session, question: Question, progress: Progress
) -> Iterator[tuple[str, list[Alignment]]]:
    """The alignments of every method, for every moving input; the naive ones first."""
    if not session.saved:
        methods = dict.fromkeys((NAIVE, *question.methods))
        for method in methods:
            yield method, session.alignments(method, progress.part(1 / len(methods)))
        return
    reference, alignments = session.reference, []
    for one, moving in zip(session.alignments(), session.moving, strict=True):
        if not session.settings.force:
            check_hashes(one, reference.sha256(), moving.sha256())
        alignments.append(measured_for(one, reference, moving))
    yield NAIVE, [_still(one) for one in alignments]
    names = {one.method for one in alignments}
    yield names.pop() if len(names) == 1 and NAIVE not in names else SAVED, alignments


def _still(alignment: Alignment) -> Alignment:
    """The naive alignment of the same pair."""
    before = alignment.distance_before
    return Alignment(alignment.symmetry, alignment.symmetry.identity(), NAIVE, 0.0, before, before)


def _by_weights(reference: Checkpoint, moving: Checkpoint, name: str, alignment: Alignment) -> PathReport:
    layers = weight_report(alignment.symmetry, reference, alignment.apply(moving))
    return PathReport(moving.called, name, (), alignment.distances, tuple(layers), alignment.details)


@dataclass(frozen=True)
class _Paths:
    """The paths of one pair, measured together."""

    testbed: Testbed
    reference: Weights
    other: Weights
    question: Question
    along: Along | None

    def measured(
        self, moving: str, alignments: Mapping[str, Alignment], progress: Progress
    ) -> list[PathReport]:
        """Every path with a curve on each set of data."""
        testbed = self.testbed
        paths = [(one, path) for name, one in alignments.items() for path in self._of(name, one)]
        curves = [
            measure(
                testbed.run, self.reference, [path for _, path in paths], data, testbed.measure,
                alphas_of(self.question.points), testbed.batch_size, progress.part(1 / len(testbed.sets)),
            )
            for data in testbed.sets
        ]  # fmt: skip
        for of in curves:
            for (_, path), curve in zip(paths, of, strict=True):
                if path.correct is None:
                    losses = curve.losses[-1], of[0].losses[-1]
                    check_same_function(path.method, *losses, partial(testbed.check_steady, self.other))
        return [
            PathReport(moving, path.method, by_data, alignment.distances, (), alignment.details)
            for (alignment, path), by_data in zip(paths, zip(*curves, strict=True), strict=True)
        ]

    def _of(self, name: str, alignment: Alignment) -> Iterator[NetworkPath]:
        """The path to one moved network, and with repair the same with every network on it repaired."""
        moved = self.other if alignment.is_still else dict(alignment.apply(self.other))  # not copied
        yield NetworkPath(name, moved, alignment.seconds, None, self.along)
        if self.question.repair:
            correct = self._repairer(moved, alignment)
            yield NetworkPath(f"{name}{REPAIRED}", moved, alignment.seconds, correct, self.along)

    def _repairer(self, moved: Weights, alignment: Alignment) -> Correct:
        """What repairs the network at an alpha; the parents are measured once.

        With BatchNorm, ends are repaired as what lies between: with statistics stored in one place and
        re-estimated in the next, the barrier would show that difference, and a network would have a barrier
        to itself.
        """
        run, batches = self.testbed.run, self.testbed.repaired_on
        parents = measure_parents(run, alignment.symmetry, (self.reference, moved), batches)
        has_norms = any(map(is_statistic, self.reference))
        corrections: dict[float, Correction] = {}

        def correct(mixed: dict[str, Tensor], alpha: float) -> Weights:
            shares = (1 - alpha, alpha)
            correction = corrections.get(alpha) or repair(
                run, parents, shares, mixed, batches, parents_too=has_norms
            )
            if (len(corrections) + 1) * sum(w.nbytes for w in correction.tensors.values()) <= _CACHE:
                corrections[alpha] = correction
            return correction.applied(mixed)

        return correct


def check_same_function(
    method: str, loss: float, expected: float, check_steady: Callable[[], None] = lambda: None
) -> None:
    """Check that moved units compute what they computed before: B's loss must not change.

    `check_steady` is called where it does: that may lie with the network.

    Raises:
        SpecError: the losses differ by more than rounding.
    """
    if abs(loss - expected) > _ROUNDING * (1 + abs(expected)):
        check_steady()
        raise SpecError(
            f"aligned B is not the function that B is (by '{method}' its loss is {loss:.4g}, not "
            f"{expected:.4g}): the spec of what moves together is wrong.",
            "`deepalign verify A B --model file.py:factory` says where; docs/specs.md, how to write one.",
        )


def write_csv(path: Path, headings: Sequence[str], rows: Iterable[Sequence[object]], *, force: bool) -> None:
    """Write a table. Raises OutputError where that fails."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([headings, *rows])
    write_bytes(path, text.getvalue().encode(), force=force)


def _notes(
    session: Session, alignments: Mapping[str, Sequence[Alignment]], question: Question
) -> tuple[str, ...]:
    testbed = session.testbed
    notes = [note for checkpoint in session.inputs for note in checkpoint.notes]
    notes += testbed.says if testbed else []
    for name, each in alignments.items():
        for one, moving in zip(each, session.moving, strict=True):
            who = f"{name}, {moving.called}: " if len(each) > 1 else f"{name}: "
            notes += [f"{who}{note}" for note in one.remarks]
    symmetry = next(iter(alignments.values()))[0].symmetry
    notes += list(symmetry.spec.notes)
    if testbed:
        notes += _notes_on_data(testbed, session, question)
    return tuple(dict.fromkeys(notes))


def _notes_on_data(testbed: Testbed, session: Session, question: Question) -> Iterator[str]:
    methods = () if question.alignments else question.methods
    uses = [METHODS.find(name).data_use(question.settings.options) for name in methods]
    if testbed.sees_only_tests and (question.repair or any(use is not DataUse.NONE for use in uses)):
        yield SEEN
    statistics = [*filter(is_statistic, session.reference)]
    frozen = testbed.frozen(dict(session.reference)) if statistics else []
    if frozen:
        yield frozen_note(frozen)
    if len(frozen) < len(statistics):
        yield ENDS if question.repair else STATISTICS_HINT
