"""`align`: the units of one or more networks carried onto the reference's, each to a file of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.artifact import measured_for, save_alignment
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.companions import companions
from deepalign_cli.checkpoint.sharding import WEIGHTS
from deepalign_cli.malloc import set_blocks
from deepalign_cli.operations.job import Job, Report, check_outputs
from deepalign_cli.operations.output_folder import (
    check_files,
    check_folder,
    check_weights,
    write_beside,
)
from deepalign_cli.operations.provenance import Hashes
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.sharded import OneFile, WeightsTarget, output_of, shards_of
from deepalign_cli.operations.shared_tensors import check_followed
from deepalign_cli.operations.stream import Stream
from deepalign_cli.progress import SILENT, Progress

ALIGNING = 0.9  # of the work, where alignments are to be found: what is left is reading and writing


def align_each(job: Job, outputs: Sequence[Path], progress: Progress = SILENT) -> tuple[Report, ...]:
    """Carry each moving input onto the reference and write it to its own file.

    Several are written into one folder, which is created if it is missing. What can be checked is checked
    before anything is written; a failure after that leaves whole outputs only.

    Raises:
        UsageError: two outputs are the same file, or the folder is not one.
        DeepalignError: an input does not fit, or an output cannot be written.
    """
    started = time.perf_counter()
    check_outputs(job, outputs)
    set_blocks(streams=job.only_streams)
    job, session = job.open()
    with Hashes(session.inputs) as hashes:
        finding = progress.part(0.0 if job.only_streams else ALIGNING, "aligning")
        alignments = session.alignments(progress=finding)
        files = [OneFile(job, output) for output in outputs]
        return write_aligned(job, session, alignments, files, hashes, started, progress)


def align_folder(job: Job, progress: Progress = SILENT) -> Report:
    """Carry the second input onto the first, into a folder: its weights, configuration and tokenizer.

    Raises:
        UsageError: the folder is an input, or holds files that must not be overwritten.
        DeepalignError: an input does not fit, or the folder cannot be written.
    """
    started = time.perf_counter()
    check_folder(job, (WEIGHTS,))
    set_blocks(streams=job.only_streams)
    job, session = job.open()
    return write_aligned_folder(job, session, started, progress)


def write_aligned_folder(job: Job, session: Session, started: float, progress: Progress = SILENT) -> Report:
    """The same for inputs that are open."""
    beside, left_out = companions(session.inputs[1])
    check_files(job, tuple(beside))
    shards = shards_of(session.fit.wholes[1], None, job.max_shard)
    check_weights(job, shards)
    with ExitStack() as stack, Hashes(session.inputs) as hashes:
        output = output_of(job, shards, stack, session.files)
        finding = progress.part(0.0 if job.only_streams else ALIGNING, "aligning")
        alignments = session.alignments(progress=finding)
        (report,) = write_aligned(job, session, alignments, [output], hashes, started, progress)
        force = job.settings.force or len(shards) > 1  # what an earlier run has left
        write_beside(output.place, beside, force=force)
    return replace(
        report, output=job.output, notes=(*report.notes, *left_out), files=(*output.files, *beside)
    )


def write_aligned(
    job: Job, session: Session, alignments: Sequence[Alignment], outputs: Sequence[WeightsTarget],
    hashes: Hashes, started: float, progress: Progress = SILENT,
) -> tuple[Report, ...]:  # fmt: skip
    """Write each moving input of a session, aligned, to its output; and the alignment if the job says so.

    Raises:
        DeepalignError: an alignment was made for other inputs, or an output cannot be written.
    """
    for i, alignment in enumerate(alignments, 1):
        check_followed(session.fit, i, alignment.symmetry.spec.axes)
    facts, rest = facts_of("align", session, alignments), progress.part(1.0)
    reports = []
    for i, (output, alignment) in enumerate(zip(outputs, alignments, strict=True), 1):
        if isinstance(output, OneFile):
            output.path.parent.mkdir(exist_ok=True)
        pair = [session.reference, session.inputs[i]]
        whole = session.fit.wholes[i]
        size = sum(info.nbytes for info in whole.infos.values())
        writing = rest.part(1 / len(outputs), f"writing {output.path.name}", size, "B")
        stream = Stream(pair, [alignment], whole, None, moves_layout=True, threads=job.threads)
        metadata = output.write(stream, facts, hashes.of(0, i), writing)
        alignment = measured_for(alignment, *pair)
        notes = tuple(dict.fromkeys([*output.notes, *notes_of_pairs(pair, [alignment])]))
        seconds = time.perf_counter() - started
        reports.append(Report(output.path, (alignment,), seconds, size, notes, metadata))
    keep_alignment(job, alignments, hashes)
    return tuple(reports)


def facts_of(command: str, session: Session, alignments: Sequence[Alignment]) -> dict[str, object]:
    """What an output's metadata say about how it was made."""
    first = alignments[0]
    return {
        "command": command, "method": first.method, "seed": session.settings.seed, **first.making,
    }  # fmt: skip


def notes_of_pairs(inputs: Sequence[Checkpoint], alignments: Sequence[Alignment]) -> list[str]:
    """What the user should know of inputs (the reference first), their alignments and the spec."""
    notes = [note for checkpoint in inputs for note in checkpoint.notes]
    for alignment, moving in zip(alignments, inputs[1:], strict=True):
        who = f"{moving.called}: " if len(alignments) > 1 else ""
        notes += [f"{who}{note}" for note in alignment.remarks]
    return notes + list(alignments[0].symmetry.spec.notes)


def keep_alignment(job: Job, alignments: Sequence[Alignment], hashes: Hashes) -> None:
    """Write the alignment of a pair, where that is asked for."""
    if job.save:
        pair = hashes.values()
        inputs = (*job.untouchable, job.output)
        save_alignment(job.save, alignments[0], (pair[0], pair[1]), force=job.settings.force, inputs=inputs)
