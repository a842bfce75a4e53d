"""`align` and `merge`: checkpoints in, safetensors files out, one tensor of each in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from deepalign_cli.align.activations import Evidence
from deepalign_cli.checkpoint import Checkpoint, Entry, check_output, write_safetensors
from deepalign_cli.checkpoint.hub import shown_source
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.errors import MismatchError, NonFiniteError, UsageError
from deepalign_cli.merge.linear import Path as Interpolation
from deepalign_cli.merge.linear import merged, normalised
from deepalign_cli.operations.alignments import Found, find_all
from deepalign_cli.operations.memory import return_large_blocks, reuse_large_blocks
from deepalign_cli.operations.provenance import Hashes, provenance, with_hashes
from deepalign_cli.operations.repairs import Repaired, repaired
from deepalign_cli.operations.run_settings import Subject
from deepalign_cli.operations.settings import Settings, group_rows, is_finite, open_network
from deepalign_cli.symmetry.resolve import SPEC_KEY
from deepalign_cli.symmetry.tensor_names import is_statistic

Advance = Callable[[float], None]
BATCHNORM_HINT = (
    "BatchNorm statistics were averaged, which understates the merged network; "
    "re-estimating them on data is better: --repair DATA."
)


@dataclass(frozen=True)
class Job:
    """Inputs and outputs: `inputs[0]` is the reference, the others move onto it.

    An input is a file, a folder, or hf://org/repo[@revision][/file].
    `alignments` are saved ones, one for each moving input; `save` is where that of a pair is kept. `subject`
    is what the networks are run as and on, where the method looks at data; `repair` names the data that a
    merged network is repaired on. `reads` are files that are read besides: no output may take their place.
    """

    inputs: tuple[Path, ...]
    output: Path
    settings: Settings = field(default_factory=Settings)
    alignments: tuple[Path, ...] = ()
    save: Path | None = None
    subject: Subject = field(default_factory=Subject)
    repair: str | None = None
    reads: tuple[Path, ...] = ()

    @property
    def untouchable(self) -> tuple[Path, ...]:
        """All files that no output may take the place of."""
        return (*self.inputs, *self.alignments, *self.reads, *filter(None, [self.settings.spec]))


@dataclass(frozen=True)
class Report:
    """What was done for one output, `seconds` after the work began.

    `distances` and `details` (what the aligner tells of its work) have an entry for each moving input,
    `groups` are those of the first.
    """

    output: Path
    method: str
    seconds: float
    distances: tuple[tuple[float, float], ...]
    groups: Mapping[str, Mapping[str, int]]
    bytes: int
    notes: tuple[str, ...] = ()
    details: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class _Part:
    """One output: the places of its moving inputs, and of the input whose names and types it has.

    `shares` are those of a merge.
    """

    output: Path
    moving: tuple[int, ...]
    layout: int
    shares: tuple[float, ...] = ()


def align_files(job: Job, advance: Advance = lambda _: None) -> Report:
    """Write the moving input with its units carried onto the reference's: the same function as before.

    Raises:
        DeepalignError: an input does not fit, or the output cannot be written.
    """
    return _run(job, "align", {}, [_Part(job.output, (1,), 1)], _second, advance)[0]


def align_each(job: Job, outputs: Sequence[Path], advance: Advance = lambda _: None) -> tuple[Report, ...]:
    """Carry each moving input onto the reference and write it to its own place in the folder `job.output`.

    The folder is made if it is missing. What can be checked is checked before anything is written; a
    failure after that leaves whole outputs only.

    Raises:
        UsageError: two outputs are the same file, or the folder is none.
        DeepalignError: an input does not fit, or an output cannot be written.
    """
    parts = [_Part(output, (i,), i) for i, output in enumerate(outputs, 1)]
    return tuple(_run(job, "align", {}, parts, _second, advance))


def merge_files(
    job: Job,
    weights: Sequence[float] = (0.5, 0.5),
    path: Interpolation = Interpolation.LINEAR,
    advance: Advance = lambda _: None,
) -> Report:
    """Write the weighted average of the reference and the aligned inputs; `weights` are normalised.

    Raises:
        DeepalignError: an input does not fit, or the output cannot be written.
        UsageError: the weights do not fit the inputs.
    """
    if len(weights) != len(job.inputs):
        raise UsageError(
            f"{len(weights)} weights are given for {len(job.inputs)} inputs.",
            "give one weight to each input.",
        )
    if path is Interpolation.SLERP and len(job.inputs) > 2:
        raise UsageError("slerp is a path between two networks.", "merge more than two with the linear path.")
    try:
        shares = normalised(weights)
    except ValueError as error:
        raise UsageError(f"{error}.", "for example --weights 2,1,1.") from None

    def tensor(name: str, tensors: Sequence[Tensor]) -> Tensor:
        return merged(name, tensors, shares, path)

    facts = {"weights": list(shares), "path": path.value}
    part = _Part(job.output, tuple(range(1, len(job.inputs))), 0, shares)
    return _run(job, "merge", facts, [part], tensor, advance)[0]


def _second(name: str, tensors: Sequence[Tensor]) -> Tensor:
    return tensors[1]


def _run(
    job: Job,
    command: str,
    facts: Mapping[str, object],
    parts: Sequence[_Part],
    combine: Callable[[str, Sequence[Tensor]], Tensor],
    advance: Advance,
) -> list[Report]:
    started, activation = time.perf_counter(), job.settings.activation
    _check_outputs(job, [part.output for part in parts])
    reuse_large_blocks() if job.alignments else return_large_blocks()
    opened = [open_network(path) for path in job.inputs]
    job = replace(job, inputs=tuple(checkpoint.path for checkpoint in opened))  # where they came from the Hub
    with Hashes(opened) as hashes:
        subject = job.subject
        evidence = _evidence(opened[0], job) if subject.data else None
        found = find_all(opened[0], opened[1:], job.settings, job.alignments, evidence)
        told = {"command": command, "method": found[0].method, "seed": job.settings.seed}
        told |= {**found[0].making, **facts}
        reports = []
        for part in parts:
            part.output.parent.mkdir(exist_ok=True)
            used = [opened[i] for i in (0, *part.moving)]
            elements = [found[i - 1] for i in part.moving]
            mended = Repaired()
            if job.repair is not None:
                mended = repaired(subject, job.repair, activation, used, elements, combine, part.shares)
                told["repair"] = mended.on
            stream = _Stream(used, elements, opened[part.layout], combine, advance, mended.tensors)
            stream.write(job, part.output, told, hashes.of(0, *part.moving))
            elements = [f.measured_for(used[0], m) for f, m in zip(elements, used[1:], strict=True)]
            seconds = time.perf_counter() - started
            reports.append(_report(part.output, command, used, elements, seconds, mended))
        if job.save:
            pair = hashes.values()
            inputs = (*job.untouchable, job.output)
            elements[0].save(job.save, (pair[0], pair[1]), force=job.settings.force, inputs=inputs)
    return reports


def _evidence(reference: Checkpoint, job: Job) -> Evidence:
    """What a method that looks at data is given."""
    from deepalign_cli.operations.testbed import open_subject  # models and data, where there are any

    return open_subject(reference, job.subject, job.settings.activation, measured=False).evidence


def _check_outputs(job: Job, outputs: Sequence[Path]) -> None:
    """Refuse, before any work, what could not be written in the end."""
    folders = [out.parent for out in outputs if len(outputs) > 1]
    for folder in folders:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"'{folder}' is not a folder.", "several outputs need one: name it with -o.")
    missing = [folder for folder in folders if not folder.exists()]  # where nothing can be in the way
    there = [out for out in outputs if out.parent not in missing]
    for out in (*missing, *there, *filter(None, [job.save])):
        check_output(out, force=job.settings.force, inputs=job.untouchable)
    targets: dict[Path, int] = {}
    for place, out in enumerate(outputs):
        first = targets.setdefault(real_target(out), place)
        if first != place:
            pair = " and ".join(f"'{shown_source(job.inputs[1 + i])}'" for i in (first, place))
            raise UsageError(f"{pair} would both be written to '{out}'.", "align one of them by itself.")
    if job.save and len(job.inputs) > 2:
        raise UsageError(
            "a saved alignment holds one pair.", "save each by `deepalign align A B --save-alignment F`."
        )
    if job.save and real_target(job.save) in targets:
        raise UsageError(
            f"'{job.save}' would hold both the output and the alignment.",
            "give --save-alignment a file of its own.",
        )


@dataclass
class _Stream:
    """Reads one tensor of each input, moves it, combines it, and hands it to the writer.

    `mended` are the tensors that are known already.
    """

    opened: Sequence[Checkpoint]
    found: Sequence[Found]
    layout: Checkpoint
    combine: Callable[[str, Sequence[Tensor]], Tensor]
    advance: Advance
    mended: Mapping[str, Tensor]

    def write(
        self, job: Job, output: Path, facts: Mapping[str, object], hashes: Callable[[], tuple[str, ...]]
    ) -> None:
        infos = list(self.layout.infos.values())
        entries = [Entry(info.stored_name, info.dtype, info.shape) for info in infos]
        names = {info.stored_name: info.name for info in infos}
        spec = self.found[0].symmetry.spec
        given = spec if job.settings.spec or SPEC_KEY in self.opened[0].metadata else None
        metadata = provenance(self.layout, self.opened, given, facts)

        def finish() -> dict[str, str]:
            values = hashes()
            for found, moving in zip(self.found, values[1:], strict=True):
                if not job.settings.force:
                    found.check_hashes(values[0], moving)
            return with_hashes(metadata, values)

        write_safetensors(
            output, entries, lambda stored: self.read(names[stored]), metadata,
            force=job.settings.force, inputs=job.untouchable, finish=finish,
        )  # fmt: skip

    def read(self, name: str) -> Tensor:
        made = self.mended[name] if name in self.mended else self.combined(name)
        if made.is_floating_point() and not is_finite(made):
            self.blame(name)
        self.advance(made.nbytes)
        return made

    def combined(self, name: str) -> Tensor:
        tensors = [self.opened[0][name]]
        for checkpoint, found in zip(self.opened[1:], self.found, strict=True):
            tensors.append(found.symmetry.act(found.element, name, checkpoint[name]))
        return self.combine(name, tensors)

    def blame(self, name: str) -> None:
        for checkpoint in self.opened:
            if not is_finite(checkpoint[name]):
                raise NonFiniteError(
                    f"'{name}' in '{checkpoint.path}' holds NaN or Inf.", "take an earlier checkpoint."
                )
        raise MismatchError(
            f"'{name}' overflows its type when it is combined.", "convert the inputs to float32 first."
        )


def _report(
    output: Path, command: str, opened: Sequence[Checkpoint], found: Sequence[Found], seconds: float,
    mended: Repaired,
) -> Report:  # fmt: skip
    notes = [note for checkpoint in opened for note in checkpoint.notes]
    for one, moving in zip(found, opened[1:], strict=True):
        who = f"{moving.called}: " if len(found) > 1 else ""
        notes += [f"{who}{note}" for note in one.notes()]
    notes += [f"doubt: {doubt}" for doubt in found[0].symmetry.spec.doubts]
    notes += mended.notes
    averaged = any(is_statistic(name) and name not in mended.tensors for name in opened[0])
    if command == "merge" and averaged:
        notes.append(BATCHNORM_HINT)
    return Report(
        output, found[0].method, seconds, tuple(f.distances for f in found),
        group_rows(found[0].symmetry, found[0].element),
        sum(info.nbytes for info in opened[0].infos.values()), tuple(dict.fromkeys(notes)),
        tuple(f.details for f in found),
    )  # fmt: skip
