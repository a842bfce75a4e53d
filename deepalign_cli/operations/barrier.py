"""`barrier`: align on the fly or as saved, and measure what the way from A to aligned B costs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from deepalign_cli.aligners import methods
from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.methods import METHODS, DataUse
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import LossError, SpecError
from deepalign_cli.measure.curve import Curve, mean_and_spread
from deepalign_cli.measure.paths import Along, Correct, NetworkPath, alphas_of, measure
from deepalign_cli.measure.weight_report import LayerReport, weight_report
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.operations.repairs import frozen_note
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.operations.session import Session, check_hashes, measured_for
from deepalign_cli.operations.settings import NAIVE, Settings
from deepalign_cli.operations.testbed import SEEN, Testbed
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.repair import Correction, measure_parents, repair
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
    "BatchNorm is re-estimated all along repaired paths, at their ends too, which therefore may differ from "
    "the parents as they were stored"
)
_KEPT = 256 * 2**20  # bytes of repaired tensors: repair is not done anew for every piece and set of data


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
    `examples` how many each of the data has.
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

    def check_finite(self) -> None:
        """See that every loss is a number.

        Raises:
            LossError: one is not; the first is named.
        """
        for path in self.paths:
            for curve in path.curves:
                if not curve.is_finite:
                    raise LossError(
                        f"the loss of '{path.name}' is not finite at alpha {curve.alphas[curve.peak]:.3g} "
                        f"on {curve.data}.",
                        _why_not_finite(curve),
                    )

    def of(self, name: str) -> list[PathReport]:
        """The paths of one method, one for each pair."""
        return [path for path in self.paths if path.name == name]


def barrier_files(question: Question, progress: Progress = SILENT) -> BarrierReport:
    """Measure the paths from the reference to every moved input; the naive path is always among them.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another.
    """
    opened = [open_network(path) for path in question.inputs]
    session = Session(opened, question.settings, question.running, question.alignments, measured=True)
    return barrier_of(session, question, progress)


def barrier_of(
    session: Session, question: Question, progress: Progress = SILENT, along: Along | None = None
) -> BarrierReport:
    """The same for inputs that are open; `along` says what the path of two is where it is not straight.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another.
    """
    started, testbed = time.perf_counter(), session.testbed
    found = list(_find(session, question, progress.part(_ALIGNING if testbed else 1.0, "aligning")))
    alphas = alphas_of(question.points) if testbed else ()
    measuring = progress.part(1.0, "measuring")
    reports: list[PathReport] = []
    for place, moving in enumerate(session.moving):
        pair = [(name, alignments[place]) for name, alignments in found]
        if testbed is None:
            reports += [_by_weights(session.reference, moving, name, one) for name, one in pair]
        else:
            stage = measuring.part(1 / len(session.moving))
            reports += _measured(
                question.repair, (session.reference, moving), pair, testbed, alphas, stage, along
            )
    return BarrierReport(
        tuple(reports), alphas, testbed.measure.name if testbed else None,
        tuple(data.name for data in testbed.sets) if testbed else (), time.perf_counter() - started,
        _notes(session, found, question), _asked(question, found), _ends(session),
        tuple(len(data) for data in testbed.sets) if testbed else (),
    )  # fmt: skip


def _asked(question: Question, found: Sequence[tuple[str, list[Alignment]]]) -> tuple[str, ...]:
    """The names of the paths that the user asked for: repaired ones where repair is asked for."""
    names = [found[-1][0]] if question.alignments else question.methods
    return tuple(f"{name}{REPAIRED if question.repair else ''}" for name in names)


def _ends(session: Session) -> tuple[str, str]:
    """What a picture calls the two ends."""
    others = [checkpoint.called for checkpoint in session.moving]
    return session.reference.called, others[0] if len(others) == 1 else f"{len(others)} networks"


def _find(session: Session, question: Question, progress: Progress) -> Iterator[tuple[str, list[Alignment]]]:
    """The alignments of every method, for every moving input; the naive ones first."""
    if session.saved:
        saved = [
            _fitting(one, session.reference, other, session.settings)
            for one, other in zip(session.alignments(), session.moving, strict=True)
        ]
        yield NAIVE, [_still(one) for one in saved]
        yield _name_of(saved), saved
        return
    asked = dict.fromkeys((NAIVE, *question.methods))
    for method in asked:
        yield method, session.alignments(method, progress.part(1 / len(asked)))


def _fitting(
    alignment: Alignment, reference: Checkpoint, moving: Checkpoint, settings: Settings
) -> Alignment:
    """A saved alignment, checked to be of these inputs."""
    if not settings.force:
        check_hashes(alignment, reference.sha256(), moving.sha256())
    return measured_for(alignment, reference, moving)


def _uses_data(question: Question) -> bool:
    """Whether data decide anything before the paths are measured on them."""
    used = () if question.alignments else question.methods
    options = question.settings.options
    return question.repair or any(METHODS.find(name).data_use(options) is not DataUse.NONE for name in used)


def _name_of(saved: Sequence[Alignment]) -> str:
    """What saved alignments are called: their method."""
    names = {one.method for one in saved}
    return names.pop() if len(names) == 1 and NAIVE not in names else SAVED


def _still(alignment: Alignment) -> Alignment:
    """Of the same pair, the naive alignment."""
    before = alignment.distance_before
    return Alignment(alignment.symmetry, alignment.symmetry.identity(), NAIVE, 0.0, before, before)


def _measured(
    repairs: bool, pair: tuple[Checkpoint, Checkpoint], found: Sequence[tuple[str, Alignment]],
    testbed: Testbed, alphas: Sequence[float], progress: Progress, along: Along | None,
) -> list[PathReport]:  # fmt: skip
    reference, other = map(dict, pair)
    named = [
        (alignment, path)
        for name, alignment in found
        for path in _paths(repairs, reference, other, name, alignment, testbed, along)
    ]
    curves = [
        measure(
            testbed.run, reference, [path for _, path in named], data, testbed.measure, alphas,
            testbed.batch_size, progress.part(1 / len(testbed.sets)),
        )
        for data in testbed.sets
    ]  # fmt: skip
    reports = []
    for i, (alignment, path) in enumerate(named):
        own = tuple(of[i] for of in curves)
        if path.correct is None:
            for curve, of in zip(own, curves, strict=True):
                check_same_function(path.method, curve.losses[-1], of[0].losses[-1])
        reports.append(
            PathReport(pair[1].called, path.method, own, alignment.distances, (), alignment.details)
        )
    return reports


def _why_not_finite(curve: Curve) -> str:
    if curve.peak in (0, len(curve.alphas) - 1):
        return "that is a parent by itself: look at its loss, and at --loss if it is your own."
    return "the merged network overflows there: try --repair, or look at the parents' losses."


def check_same_function(method: str, own: float, other: float) -> None:
    """See that moved units compute what they computed before: B's loss is the same wherever they stand.

    Raises:
        SpecError: the losses differ by more than rounding.
    """
    if abs(own - other) > _ROUNDING * (1 + abs(other)):
        raise SpecError(
            f"aligned B is not the function that B is (by '{method}' its loss is {own:.4g}, not "
            f"{other:.4g}): the spec of what moves together is wrong.",
            "`deepalign verify A B --model file.py:factory` says where; docs/specs.md, how to write one.",
        )


def _paths(
    repairs: bool, reference: Weights, other: Weights, name: str, alignment: Alignment, testbed: Testbed,
    along: Along | None,
) -> Iterator[NetworkPath]:  # fmt: skip
    """The path to one moved network, and where it is asked for the same with every network on it repaired."""
    moved = dict(alignment.apply(other)) if alignment.moved else other  # in no memory of its own
    yield NetworkPath(name, moved, alignment.seconds, None, along)
    if repairs:
        correct = _repairer(reference, moved, alignment, testbed)
        yield NetworkPath(f"{name}{REPAIRED}", moved, alignment.seconds, correct, along)


def _by_weights(reference: Checkpoint, moving: Checkpoint, name: str, alignment: Alignment) -> PathReport:
    layers = weight_report(alignment.symmetry, reference, alignment.apply(moving))
    return PathReport(moving.called, name, (), alignment.distances, tuple(layers), alignment.details)


def _repairer(reference: Weights, moved: Weights, alignment: Alignment, testbed: Testbed) -> Correct:
    """What repairs the network at an alpha; the parents are measured once.

    With BatchNorm, ends are repaired as what lies between: were statistics stored in one place and
    re-estimated in the next, the barrier would tell of that difference, and a network would have one to
    itself.
    """
    batches = testbed.repaired_on
    parents = measure_parents(testbed.run, alignment.symmetry, (reference, moved), batches)
    has_norms = any(map(is_statistic, reference))
    corrections: dict[float, Correction] = {}

    def correct(mixed: dict[str, Tensor], alpha: float) -> Weights:
        shares = (1 - alpha, alpha)
        correction = corrections.get(alpha) or repair(
            testbed.run, parents, shares, mixed, batches, parents_too=has_norms
        )
        if (len(corrections) + 1) * sum(w.nbytes for w in correction.tensors.values()) <= _KEPT:
            corrections[alpha] = correction
        return correction.applied(mixed)

    return correct


def _notes(
    session: Session, found: Sequence[tuple[str, list[Alignment]]], question: Question
) -> tuple[str, ...]:
    testbed = session.testbed
    notes = [note for checkpoint in session.inputs for note in checkpoint.notes]
    notes += testbed.says if testbed else []
    for name, alignments in found:
        for one, moving in zip(alignments, session.moving, strict=True):
            who = f"{name}, {moving.called}: " if len(alignments) > 1 else f"{name}: "
            notes += [f"{who}{note}" for note in one.remarks]
    notes += [f"doubt: {doubt}" for doubt in found[0][1][0].symmetry.spec.doubts]
    if testbed and testbed.sees_only_tests and _uses_data(question):
        notes.append(SEEN)
    statistics = [*filter(is_statistic, session.reference)]
    if testbed and statistics:
        frozen = testbed.frozen(dict(session.reference))
        notes += [frozen_note(frozen)] if frozen else []
        if len(frozen) < len(statistics):
            notes.append(ENDS if question.repair else STATISTICS_HINT)
    return tuple(dict.fromkeys(notes))
