"""`transport`: what training has changed in one network, carried over to another that was trained separately.

With g the element that carries base A onto base B, the output is B + scale (g tuned A - g A): task vectors
(Ilharco et al. 2023, arXiv 2212.04089) in B's units. Where B is g A, it is B + scale (g tuned A - B).
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import measured_for
from deepalign_cli.checkpoint import DTYPES, Checkpoint
from deepalign_cli.checkpoint.selection import Selection
from deepalign_cli.errors import UsageError
from deepalign_cli.malloc import set_blocks
from deepalign_cli.operations.align import ALIGNING, facts_of, keep_alignment, notes_of_pairs
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.operations.job import Job, Report, check_outputs
from deepalign_cli.operations.mergeable import check_mergeable, notes_on_parts
from deepalign_cli.operations.provenance import Hashes
from deepalign_cli.operations.repairs import Repaired, frozen_note, reestimated_on
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.sharded import OneFile, WeightsTarget
from deepalign_cli.operations.shared_tensors import fitted
from deepalign_cli.operations.stream import Stream
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.symmetry.tensors import is_mixed, narrowed, widened
from deepalign_cli.threads import usable_cores

STATISTICS_HINT = (
    "BatchNorm statistics were carried over, too, which is a guess: re-estimate them on data of the task, "
    "--repair DATA."
)
_EPS = 1e-5  # what BatchNorm adds to variances, unless it is told otherwise


class Unrounded(Selection):
    """A checkpoint whose half types are read as float32, so that a difference keeps its digits."""

    def __init__(self, base: Checkpoint) -> None:
        super().__init__(base, {name: name for name in base})
        self.notes = base.notes

    def __getitem__(self, name: str) -> Tensor:
        """The tensor, in float32 or wider where it is floating point."""
        return _unrounded(super().__getitem__(name))

    def flat(self, name: str, start: int, stop: int) -> Tensor:
        """A part of it, in the same type."""
        return _unrounded(super().flat(name, start, stop))


def _unrounded(w: Tensor) -> Tensor:
    return widened(w) if w.is_floating_point() else w


@dataclass
class Addition:
    """base + scale (tuned - before), entry by entry, for what lies in the base's units; in the base's type.

    A variance of a BatchNorm is multiplied by the ratio in place of that, so that none is below 0. Integers
    are the base's. `squares` are sums of squares of the task vector, of all that was seen.
    """

    scale: float
    squares: list[float] = field(default_factory=list)

    def take(self) -> float:
        """The squared norm of the task vector, of what was seen since this was last asked."""
        taken, self.squares = self.squares, []
        return math.fsum(taken)

    def __call__(self, name: str, tensors: Sequence[Tensor]) -> Tensor:
        """The tensor `name` of the base, of the network before it was tuned, and after, or pieces of them."""
        base, before, tuned = tensors
        if not is_mixed(base):
            return base
        vector = tuned - before
        if not is_statistic(name):
            self.squares.append(float(torch.linalg.vector_norm(vector)) ** 2)
        if base.is_complex():
            return (base + self.scale * vector).to(base.dtype)
        wide = widened(base)
        if name.endswith("running_var"):
            ratio = ((tuned + _EPS) / (before + _EPS)) ** self.scale
            return narrowed(((wide + _EPS) * ratio - _EPS).clamp(min=0), base.dtype, name)
        return narrowed(wide + self.scale * vector, base.dtype, name)


class TaskStream(Stream):
    """A stream whose `combine` is an `Addition`: its squares are those of the task vector."""

    def take_squares(self) -> list[float]:
        """What was seen of the task vector since this was last asked."""
        assert isinstance(self.combine, Addition)
        self.add_squares([self.combine.take()])
        return self._sums[-1]

    @property
    def norm(self) -> float:
        """The Euclidean norm of the task vector, over all tensors that were seen, in earlier runs, too."""
        self.take_squares()
        return math.sqrt(math.fsum(square for row in self._sums for square in row))


class Transport:
    """The network that a task vector was carried over to.

    `session` holds base B, which is the reference, and base A; `tuned` is a network that was trained from A.
    With `repair`, which names data, BatchNorm is re-estimated on training examples. It is written in so many
    `threads`, with floating-point tensors of the type `dtype`.

    Raises:
        MismatchError: tuned A has other tensors or shapes than base A; or a norm's gain is too small to turn.
        UsageError: the scale is not finite.
    """

    def __init__(
        self, session: Session, tuned: Checkpoint, scale: float = 1.0, progress: Progress = SILENT,
        repair: str | None = None, *, dtype: str | None = None, threads: int | None = None,
    ) -> None:  # fmt: skip
        check_scale(scale)
        self.session, self.scale, self.repair, self.dtype = session, scale, repair, dtype
        self.inputs = fitted_to(session, tuned)
        check_mergeable(self.inputs)
        self.alignment = session.alignments(progress=progress)[0]
        self.addition = Addition(scale)
        reference, before, after = self.inputs
        pair = [self.alignment, self._of_tuned(after)]
        self.stream = TaskStream(
            [reference, Unrounded(before), Unrounded(after)], pair, session.fit.wholes[0], self.addition,
            elementwise=True, dtype=dtype, threads=threads or usable_cores(),
        )  # fmt: skip
        self._norm: float | None = None
        if session.fit.is_partial:
            self.stream.spec = session.fit.symmetry_of(0, self.alignment.symmetry.spec).spec
        self.repaired = Repaired()
        if repair is not None:
            testbed = session.repairing(repair)
            self.repaired = reestimated_on(testbed, self._all())
            self.addition.take()  # which is seen again when it is written
            self.stream.known = self.repaired.tensors

    def _of_tuned(self, tuned: Checkpoint) -> Alignment:
        """The same element, from the gains of the tuned network's norms: training changed them, too."""
        symmetry, element = self.alignment.symmetry, self.alignment.element
        if element.enter or element.leave:
            element = replace(element, enter=symmetry.norms.of(tuned))
        return replace(self.alignment, element=element, hashes=None)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The whole network, in memory from now on: it is written from there."""
        self.stream.known = self._all()
        self._norm = math.sqrt(self.addition.take())
        return dict(self.stream.known)

    @property
    def norm(self) -> float:
        """The Euclidean norm of the task vector, once all tensors were made."""
        return self.stream.norm if self._norm is None else self._norm

    def _all(self) -> dict[str, Tensor]:
        return {name: self.stream.tensor(name) for name in self.session.fit.wholes[0]}

    def notes(self) -> list[str]:
        """What the user should know about it, once all tensors were made."""
        reference, before, after = (one.called for one in self.inputs)
        notes = [*notes_of_pairs(self.session.inputs, [self.alignment]), *notes_on_parts(self.inputs)]
        notes += [note for note in self.inputs[2].notes if note not in notes]
        norm = self.norm
        if not norm:
            notes.append(f"{after} and {before} hold the same weights: the output is {reference}")
        elif norm > self.alignment.distance_before:
            notes.append(
                f"{after} is further from {before} ({norm:.4g}) than {reference} is "
                f"({self.alignment.distance_before:.4g}): was it trained from it?"
            )
        carried = [n for n in self.inputs[0] if is_statistic(n) and n not in self.repaired.tensors]
        notes += self.repaired.notes
        if carried:
            notes.append(STATISTICS_HINT if self.repair is None else frozen_note(carried, "as carried over"))
        return notes


def check_scale(scale: float) -> None:
    """Raise UsageError where the scale is not a number to multiply by."""
    if not math.isfinite(scale):
        raise UsageError(
            f"--scale is {scale}.", "it must be a finite number; 1 adds the task vector as it is."
        )


def fitted_to(session: Session, tuned: Checkpoint) -> tuple[Checkpoint, ...]:
    """Base B, base A and the tuned network, with the tensors that all share, under B's names.

    Raises:
        MismatchError: they are not of one architecture.
    """
    reference, before = session.fit.wholes
    partial = session.settings.partial
    if not partial:
        tuned = fitted((before, tuned), partial=False).inputs[1]
    return fitted((reference, before, tuned), partial=partial).inputs


def transport_files(
    job: Job, tuned: Path, scale: float = 1.0, progress: Progress = SILENT
) -> tuple[Report, float]:
    """Write base B with what `tuned` has learned; the report, and the norm of the task vector.

    The job's inputs are base B and base A.

    Raises:
        DeepalignError: an input does not fit, or the output cannot be written.
    """
    started = time.perf_counter()
    check_scale(scale)
    check_outputs(job, [job.output])
    set_blocks(streams=job.only_streams)
    job, session, checkpoint = opened(job, tuned)
    with Hashes([*session.inputs, checkpoint]) as hashes:
        finding = progress.part(0.0 if job.only_streams else ALIGNING, "aligning")
        transport = made(job, session, checkpoint, scale, finding)
        report = write_transport(job, transport, OneFile(job, job.output), hashes, started, progress)
        return report, transport.norm


def made(job: Job, session: Session, tuned: Checkpoint, scale: float, progress: Progress) -> Transport:
    """The network, as a job wants it. Raises as `Transport`."""
    return Transport(session, tuned, scale, progress, job.repair, dtype=job.dtype, threads=job.threads)


def opened(job: Job, tuned: Path, *, measured: bool = False) -> tuple[Job, Session, Checkpoint]:
    """The job with the files that its inputs were fetched to, its session, and the tuned network."""
    job, session = job.open(measured=measured)
    checkpoint = open_network(tuned, job.settings.key)
    return replace(job, reads=(*job.reads, checkpoint.path)), session, checkpoint


def write_transport(
    job: Job, transport: Transport, output: WeightsTarget, hashes: Hashes, started: float,
    progress: Progress = SILENT,
) -> Report:  # fmt: skip
    """Write the network, and the alignment of the bases where the job asks for that.

    Raises:
        DeepalignError: an alignment was made for other inputs, or the output cannot be written.
    """
    session, alignment = transport.session, transport.alignment
    facts = facts_of("transport", session, [alignment]) | {"scale": transport.scale}
    if transport.repair is not None:
        facts |= {"repair": transport.repaired.on, "repair.batch_size": transport.repaired.size}
    facts |= {"dtype": DTYPES[job.dtype].torch_name} if job.dtype else {}
    size = sum(entry.nbytes for entry in transport.stream.entries())
    writing = progress.part(1.0, f"writing {job.output.name}", size, "B")
    metadata = output.write(transport.stream, facts, hashes.values, writing)
    alignment = measured_for(alignment, session.reference, session.moving[0])
    keep_alignment(job, [alignment], hashes)
    notes = tuple(dict.fromkeys([*output.notes, *transport.notes()]))
    return Report(job.output, (alignment,), time.perf_counter() - started, size, notes, metadata)
