"""A merged network as a folder that can be loaded and shared: weights, what belongs to them, a model card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.checkpoint.companions import companions
from deepalign_cli.checkpoint.sharding import WEIGHTS
from deepalign_cli.errors import MissingExtra
from deepalign_cli.malloc import set_blocks
from deepalign_cli.operations.card import card
from deepalign_cli.operations.card_facts import facts_for
from deepalign_cli.operations.job import Job, Report, check_kept
from deepalign_cli.operations.merge import Merge, Merging, write_merge
from deepalign_cli.operations.merge_cost import Cost, cost_of
from deepalign_cli.operations.output_folder import (
    check_files,
    check_folder,
    check_weights,
    write_beside,
)
from deepalign_cli.operations.provenance import Hashes
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.sharded import output_of, shards_of
from deepalign_cli.plots import save_curves
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.vocabulary.joined import JoinedTokenizer

CARD, PICTURE = "README.md", "curve.png"
_OWN_CODE = "config.json names code of its own (auto_map), which was not copied: no code is"
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
    check_folder(job, (WEIGHTS, CARD))  # before anything is fetched
    check_kept(job)
    set_blocks(streams=job.only_streams)
    job, session = job.open(measured=True)
    report, _ = write_folder(job, session, merging, title, options, started, progress)
    return report


def write_folder(
    job: Job, session: Session, merging: Merging, title: str, options: Sequence[str] | None, started: float,
    progress: Progress = SILENT, *, in_memory: bool = False,
) -> tuple[Report, Merge]:  # fmt: skip
    """The same for inputs that are open; `options` are None where no command makes the network.

    With `in_memory` all tensors are there afterwards.
    """
    beside, left_out = companions(session.reference)
    vocabulary = session.fit.vocabulary
    joined = vocabulary.joined if vocabulary else JoinedTokenizer()
    beside = {name: source for name, source in beside.items() if not joined.replaces(name)}
    check_files(job, (*beside, *joined.files, CARD, *([PICTURE] if job.running.data else [])))
    shards = shards_of(session.fit.layout, job.dtype, job.max_shard)
    check_weights(job, shards)
    with ExitStack() as stack, Hashes(session.inputs) as hashes:
        output = output_of(job, shards, stack, session.files)
        aligning = progress.part(0.0 if job.only_streams else _ALIGNING, "aligning")
        merge = Merge(session, merging, job.repair, aligning, dtype=job.dtype, threads=job.threads)
        cost = _cost(merge, progress)
        if in_memory:
            _ = merge.tensors  # which are written from there
        report = write_merge(job, merge, output, hashes, started, progress)
        place, force = output.place, job.settings.force or len(shards) > 1  # what an earlier run has left
        pictures, unable = _drawn(cost, place, force=force)
        write_beside(place, beside, joined.files, dtype=job.dtype, force=force)
        own_code = (_OWN_CODE,) if "auto_map" in session.reference.config else ()
        notes = (*(cost.notes if cost else ()), *report.notes, *left_out, *own_code, *unable)
        files = (*output.files, *sorted([*beside, *joined.files]), *pictures, CARD)
        report = replace(report, output=job.output, notes=tuple(dict.fromkeys(notes)), files=files)
        facts = facts_for(title, options, report, cost, session.reference, job.inputs, pictures)
        write_bytes(place / CARD, card(facts).encode(), force=force)
    return report, merge


def _cost(merge: Merge, progress: Progress) -> Cost | None:
    """What the merge costs, where there are data with labels to measure it on."""
    testbed = merge.session.testbed
    if testbed is None or testbed.loss is None:
        return None
    return cost_of(merge, testbed, progress.part(_MEASURING, "measuring"))


def _drawn(cost: Cost | None, place: Path, *, force: bool) -> tuple[list[str], list[str]]:
    """The names of the pictures that were drawn of a cost, and why one could not be."""
    if cost is None or not cost.curves:
        return [], []
    try:
        save_curves(place / PICTURE, cost.curves, names=cost.ends, force=force)
    except MissingExtra as missing:
        return [], [f"the card has no picture: {missing.message} {missing.hint}"]
    return [PICTURE], []
