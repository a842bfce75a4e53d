"""A merged network as a folder that can be loaded and shared: weights, what belongs to them, a model card.

A new folder appears complete or not at all. In one that exists, the files that are written replace old ones,
each in one step; the others stay.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from deepalign_cli.checkpoint import check_output
from deepalign_cli.checkpoint.atomic import atomic_file, write_all, write_bytes
from deepalign_cli.checkpoint.files import open_regular
from deepalign_cli.checkpoint.hub import is_reference
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.errors import MissingExtra, OutputError, UsageError
from deepalign_cli.operations.card import card
from deepalign_cli.operations.card_facts import facts_for
from deepalign_cli.operations.companions import companions
from deepalign_cli.operations.job import Job, Report
from deepalign_cli.operations.malloc import return_large_blocks, reuse_large_blocks
from deepalign_cli.operations.merge import Merge, Merging, write_merge
from deepalign_cli.operations.merge_cost import Cost, cost_of
from deepalign_cli.operations.provenance import Hashes
from deepalign_cli.plots import save_curves
from deepalign_cli.progress import SILENT, Progress

WEIGHTS, CARD, PICTURE = "model.safetensors", "README.md", "curve.png"
# What readers of folders would take in place of the merged weights.
_SHADOWS = ("model.safetensors.index.json",)
_OWN_CODE = "config.json names code of its own (auto_map), which was not copied: no code is"
_CHUNK = 1 << 20
_ALIGNING, _MEASURING = 0.6, 0.3  # of the work


def merge_folder(
    job: Job, title: str, options: Sequence[str], merging: Merging | None = None, progress: Progress = SILENT
) -> Report:
    """Merge as `merge_files` does into the folder `job.output`, with the companions of the first input.

    The card has a title, and a command that makes the network again, in which `options` follow the inputs.
    Inputs, models and data are opened once, and alignments found once. Where there are data, the card tells
    what the network that was written costs on them.

    Raises:
        UsageError: a file to be written exists and is not to be overwritten, or is an input.
        DeepalignError: an input does not fit, or the folder cannot be written.
    """
    started, merging = time.perf_counter(), merging or Merging()
    merging.check(len(job.inputs))
    folder, force = job.output, job.settings.force
    check_folder(job)  # before anything is fetched
    reuse_large_blocks() if job.alignments else return_large_blocks()
    job, session = job.open(measured=True)
    beside, left_out = companions(session.reference)
    _check_files(job, (*beside, WEIGHTS, CARD, *([PICTURE] if job.running.data else [])))
    with _created(folder) as place, Hashes(session.inputs) as hashes:
        merge = Merge(session, merging, job.repair, progress.part(_ALIGNING, "aligning"))
        testbed, cost = session.testbed, None
        if testbed is not None:
            cost = cost_of(merge, testbed, progress.part(_MEASURING, "measuring"))
        pictures, unable = _drawn(cost, place, force=force)
        target = place / WEIGHTS
        report = write_merge(replace(job, output=target), merge, target, hashes, started, progress)
        for name, source in beside.items():
            _copy(source, place / name, force=force)
        own_code = (_OWN_CODE,) if "auto_map" in session.reference.config else ()
        notes = (*(cost.notes if cost else ()), *report.notes, *left_out, *own_code, *unable)
        files = (WEIGHTS, *beside, *pictures, CARD)
        report = replace(report, output=folder, notes=tuple(dict.fromkeys(notes)), files=files)
        facts = facts_for(title, options, report, cost, session.reference, job.inputs, pictures)
        write_bytes(place / CARD, card(facts).encode(), force=force)
    return report


def _drawn(cost: Cost | None, place: Path, *, force: bool) -> tuple[list[str], list[str]]:
    """The names of the pictures that were drawn of a cost, and why one could not be."""
    if cost is None or not cost.curves:
        return [], []
    try:
        save_curves(place / PICTURE, cost.curves, names=cost.ends, force=force)
    except MissingExtra as missing:
        return [], [f"the card has no picture: {missing.message} {missing.hint}"]
    return [PICTURE], []


# --- where it is written --------------------------------------------------------------------------


def check_folder(job: Job) -> None:
    """Refuse, before any work, a folder that could not be written in the end.

    Raises:
        UsageError: it is not a folder, is an input, or holds files that must not be overwritten.
        OutputError: it cannot be written.
    """
    folder = job.output
    if not real_target(folder).exists():
        check_output(folder, force=False, inputs=job.inputs)
        return
    if not folder.is_dir():
        raise UsageError(f"'{folder}' is not a folder.", "name another, or leave out the / for a file.")
    for source in job.inputs:
        if not is_reference(source) and source.is_dir() and folder.samefile(source):
            raise UsageError(f"'{folder}' is one of the inputs.", "name another folder.")
    for name in _SHADOWS:
        if os.path.lexists(folder / name):
            problem = f"'{folder / name}' would be read in place of the merged weights."
            raise UsageError(problem, "remove it, or name another folder.")
    _check_files(job, (WEIGHTS, CARD))


def _check_files(job: Job, names: Sequence[str]) -> None:
    if real_target(job.output).is_dir():
        inputs = [source for source in job.untouchable if not is_reference(source)]
        for name in names:
            check_output(job.output / name, force=job.settings.force, inputs=inputs)


@contextmanager
def _created(folder: Path) -> Iterator[Path]:
    """Where to write: the folder if it exists, else a hidden one that becomes it when all went well."""
    target = real_target(folder)
    if target.is_dir():
        yield target
        return
    hidden = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}.partial"
    with _reported(folder):
        hidden.mkdir()
    try:
        yield hidden
        with _reported(folder):
            _publish(hidden, target, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def _reported(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"'{folder}' cannot be written: {error.strerror or type(error).__name__}."
        raise OutputError(message, "check the folder and its permissions.") from None


def _publish(hidden: Path, target: Path, folder: Path) -> None:
    _sync(hidden)
    try:
        hidden.rename(target)
    except OSError:
        if not target.exists():
            raise
        raise UsageError(f"'{folder}' exists.", "name another folder.") from None
    _sync(target.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path, *, force: bool) -> None:
    with open_regular(source) as (file, stamp), atomic_file(target, stamp.size, force=force) as out:
        while chunk := file.read(_CHUNK):
            write_all(out, chunk)
