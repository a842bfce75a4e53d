"""`barrier`: align on the fly or as saved, and measure what the way from A to aligned B costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import LossError, SpecError
from deepalign_cli.measure.curve import Curve, mean_and_spread
from deepalign_cli.measure.paths import Correct, Way, alphas_of, measure
from deepalign_cli.measure.weight_report import LayerReport, weight_report
from deepalign_cli.operations.alignments import Found, find_all
from deepalign_cli.operations.run_settings import Subject
from deepalign_cli.operations.settings import Method, Refine, Settings, bind, open_network
from deepalign_cli.operations.testbed import SEEN, Opened, open_subject
from deepalign_cli.repair import Correction, measure_parents, repair
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import is_statistic

Advance = Callable[[float], None]
SAVED = "saved"  # what alignments from files are called where their methods differ
REPAIRED = " + repair"
_ROUNDING = 1e-3
STATISTICS_HINT = (
    "the statistics of BatchNorm are averaged along the way, which overstates the barrier; "
    "--repair re-estimates them"
)
ENDS = (
    "BatchNorm is re-estimated all along repaired ways, at their ends too, which therefore may differ from "
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
    methods: tuple[Method, ...] = (Method.DEEPALIGN,)
    settings: Settings = field(default_factory=Settings)
    subject: Subject = field(default_factory=Subject)
    alignments: tuple[Path, ...] = ()
    points: int = 25
    repair: bool = False


@dataclass(frozen=True)
class PathReport:
    """One way of one moving input: a curve for each set of data, or, without data, a report on the weights.

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
    """All ways of all pairs.

    `loss` says what was measured, `data` on what (nothing where there is none), `asked` which methods the
    user named, `ends` what the first and the last point of the curves are, `examples` how many each of the
    data has.
    """

    paths: tuple[PathReport, ...]
    alphas: tuple[float, ...]
    loss: str | None
    data: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...]
    asked: tuple[str, ...]
    ends: tuple[str, str]
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
        """The ways of one method, one for each pair."""
        return [path for path in self.paths if path.name == name]


def barrier_files(question: Question, advance: Advance = lambda _: None) -> BarrierReport:
    """Measure the ways from the reference to every moved input; the naive way is always among them.

    Raises:
        DeepalignError: the inputs, the model and the data do not fit one another.
    """
    started = time.perf_counter()
    opened = [open_network(path) for path in question.inputs]
    subject = (
        open_subject(opened[0], question.subject, question.settings.activation)
        if question.subject.data
        else None
    )
    found = list(_find(question, opened, subject))
    notes = _notes(opened, found, subject, question)
    alphas = alphas_of(question.points) if subject else ()
    paths: list[PathReport] = []
    for place, moving in enumerate(opened[1:]):
        pair = [(name, elements[place]) for name, elements in found]
        if subject is None:
            paths += [_by_weights(opened[0], moving, name, one) for name, one in pair]
        else:
            one = partial(_partly, advance, 1 / (len(opened) - 1))
            paths += _measured(question, (opened[0], moving), pair, subject, alphas, one)
    return BarrierReport(
        tuple(paths), alphas, subject.measure.name if subject else None,
        tuple(data.name for data in subject.sets) if subject else (), time.perf_counter() - started, notes,
        _asked(question, found), _ends(opened),
        tuple(len(data) for data in subject.sets) if subject else (),
    )  # fmt: skip


def _asked(question: Question, found: Sequence[tuple[str, list[Found]]]) -> tuple[str, ...]:
    """The names of the ways that the user asked for: repaired ones where repair is asked for."""
    names = [found[-1][0]] if question.alignments else [method.value for method in question.methods]
    return tuple(f"{name}{REPAIRED if question.repair else ''}" for name in names)


def _partly(advance: Advance, share: float, step: float) -> None:
    advance(share * step)


def _ends(opened: Sequence[Checkpoint]) -> tuple[str, str]:
    """What a picture calls the two ends."""
    others = [checkpoint.called for checkpoint in opened[1:]]
    return opened[0].called, others[0] if len(others) == 1 else f"{len(others)} networks"


def _find(
    question: Question, opened: Sequence[Checkpoint], subject: Opened | None
) -> Iterator[tuple[str, list[Found]]]:
    """The elements of every method, for every moving input; the naive ones first."""
    if question.alignments:
        saved = [
            _fitting(one, opened[0], other, question)
            for one, other in zip(
                find_all(opened[0], opened[1:], question.settings, question.alignments),
                opened[1:],
                strict=True,
            )
        ]
        yield Method.NONE.value, [_still(one) for one in saved]
        yield _name_of(saved), saved
        return
    evidence, symmetry = subject.evidence if subject else None, bind(opened[0], question.settings)
    for method in dict.fromkeys((Method.NONE, *question.methods)):
        settings = replace(question.settings, method=method)
        yield method.value, find_all(opened[0], opened[1:], settings, (), evidence, symmetry)


def _fitting(found: Found, reference: Checkpoint, moving: Checkpoint, question: Question) -> Found:
    """A saved alignment, checked to be of these inputs."""
    if not question.settings.force:
        found.check_hashes(reference.sha256(), moving.sha256())
    return found.measured_for(reference, moving)


def _looks(question: Question) -> bool:
    """Whether anything looks at data before it is measured on them."""
    refine, methods = question.settings.refine, () if question.alignments else question.methods
    chosen = Method.DEEPALIGN in methods and refine in (Refine.AUTO, Refine.ACTIVATIONS)
    return question.repair or chosen or bool({Method.ACTIVATIONS, Method.DUAL} & set(methods))


def _name_of(saved: Sequence[Found]) -> str:
    """What saved alignments are called: their method."""
    names = {one.method for one in saved}
    return names.pop() if len(names) == 1 and Method.NONE.value not in names else SAVED


def _still(found: Found) -> Found:
    """Of the same pair, the naive element."""
    before = found.distances[0]
    return Found(found.symmetry, found.symmetry.identity(), Method.NONE.value, (before, before))


def _measured(
    question: Question, pair: tuple[Checkpoint, Checkpoint], found: Sequence[tuple[str, Found]],
    subject: Opened, alphas: Sequence[float], advance: Advance,
) -> list[PathReport]:  # fmt: skip
    reference, other = map(dict, pair)
    made = [
        (one, way) for name, one in found for way in _ways(question, reference, other, name, one, subject)
    ]
    ways = [way for _, way in made]
    curves = [
        measure(
            subject.run, reference, ways, data, subject.measure, alphas, subject.batch_size,
            partial(_partly, advance, 1 / len(subject.sets)),
        )
        for data in subject.sets
    ]  # fmt: skip
    reports = []
    for i, (one, way) in enumerate(made):
        own = tuple(of[i] for of in curves)
        if way.correct is None:
            for curve, of in zip(own, curves, strict=True):
                check_same_function(way.method, curve.losses[-1], of[0].losses[-1])
        reports.append(PathReport(pair[1].called, way.method, own, one.distances, (), one.details))
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


def _ways(
    question: Question, reference: Weights, other: Weights, name: str, found: Found, subject: Opened
) -> Iterator[Way]:
    """The way of one element, and where it is asked for the same with every network on it repaired."""
    moved = _moved(found, other)
    yield Way(name, moved, found.seconds)
    if question.repair:
        correct = _repairer(reference, moved, found, subject)
        yield Way(f"{name}{REPAIRED}", moved, found.seconds, correct)


def _moved(found: Found, other: Weights) -> Weights:
    if not any(map(found.element.moved, found.symmetry.sizes)):
        return other  # in no memory of its own
    return found.symmetry.apply(found.element, other)


def _by_weights(reference: Checkpoint, moving: Checkpoint, name: str, found: Found) -> PathReport:
    layers = weight_report(found.symmetry, reference, _moved(found, moving))
    return PathReport(moving.called, name, (), found.distances, tuple(layers), found.details)


def _repairer(reference: Weights, moved: Weights, found: Found, subject: Opened) -> Correct:
    """What repairs the network at an alpha; the parents are measured once.

    With BatchNorm, ends are repaired as what lies between: were statistics stored in one place and
    re-estimated in the next, the barrier would tell of that difference, and a network would have one to
    itself.
    """
    batches = subject.repaired_on
    parents = measure_parents(subject.run, found.symmetry, (reference, moved), batches)
    has_norms = any(map(is_statistic, reference))
    kept: dict[float, Correction] = {}

    def correct(mixed: dict[str, Tensor], alpha: float) -> Weights:
        shares = (1 - alpha, alpha)
        correction = kept.get(alpha) or repair(
            subject.run, parents, shares, mixed, batches, parents_too=has_norms
        )
        if (len(kept) + 1) * sum(w.nbytes for w in correction.tensors.values()) <= _KEPT:
            kept[alpha] = correction
        return correction.applied(mixed)

    return correct


def _notes(
    opened: Sequence[Checkpoint], found: Sequence[tuple[str, list[Found]]], subject: Opened | None,
    question: Question,
) -> tuple[str, ...]:  # fmt: skip
    notes = [note for checkpoint in opened for note in checkpoint.notes]
    notes += subject.says if subject else []
    for name, elements in found:
        for one, moving in zip(elements, opened[1:], strict=True):
            who = f"{name}, {moving.called}: " if len(elements) > 1 else f"{name}: "
            notes += [f"{who}{note}" for note in one.notes()]
    notes += [f"doubt: {doubt}" for doubt in found[0][1][0].symmetry.spec.doubts]
    if subject and subject.sees_only_tests and _looks(question):
        notes.append(SEEN)
    if subject and any(map(is_statistic, opened[0])):
        notes.append(ENDS if question.repair else STATISTICS_HINT)
    return tuple(dict.fromkeys(notes))
