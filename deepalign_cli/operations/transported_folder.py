"""`transport` into a folder: weights, what belongs to them, and a model card."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.checkpoint.companions import companions
from deepalign_cli.checkpoint.sharding import WEIGHTS
from deepalign_cli.malloc import set_blocks
from deepalign_cli.operations.align import ALIGNING
from deepalign_cli.operations.card import card
from deepalign_cli.operations.card_facts import facts_for
from deepalign_cli.operations.job import Job, Report
from deepalign_cli.operations.merge_cost import Cost, measured_networks
from deepalign_cli.operations.merged_folder import CARD
from deepalign_cli.operations.output_folder import (
    check_files,
    check_folder,
    check_weights,
    write_beside,
)
from deepalign_cli.operations.provenance import Hashes
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.sharded import output_of, shards_of
from deepalign_cli.operations.transport import Transport, check_scale, made, opened, write_transport
from deepalign_cli.progress import SILENT, Progress

TUNED = "the network that was written"


def transport_folder(
    job: Job, tuned: Path, scale: float, title: str, options: Sequence[str], progress: Progress = SILENT
) -> tuple[Report, float]:
    """As `transport_files`, with the companions of base B and a card; weights may be in shards.

    The card has a title, and a command that makes the network again, in which `options` follow the inputs.
    Where there are data, it tells the losses of all networks on them.

    Raises:
        UsageError: a file to be written exists and is not to be overwritten, or is an input.
        DeepalignError: an input does not fit, or the folder cannot be written.
    """
    started = time.perf_counter()
    check_scale(scale)
    check_folder(job, (WEIGHTS, CARD))
    set_blocks(streams=job.only_streams)
    job, session, checkpoint = opened(job, tuned, measured=True)
    report, transport = write_transported(job, session, checkpoint, scale, title, options, started, progress)
    return report, transport.norm


def write_transported(
    job: Job, session: Session, tuned: Checkpoint, scale: float, title: str, options: Sequence[str] | None,
    started: float, progress: Progress = SILENT, *, in_memory: bool = False,
) -> tuple[Report, Transport]:  # fmt: skip
    """The same for inputs that are open; `options` are None where no command makes the network.

    With `in_memory` all tensors are there afterwards.
    """
    beside, left_out = companions(session.reference)
    check_files(job, (*beside, CARD))
    shards = shards_of(session.fit.wholes[0], job.dtype, job.max_shard)
    check_weights(job, shards)
    with ExitStack() as stack, Hashes([*session.inputs, tuned]) as hashes:
        output = output_of(job, shards, stack)
        finding = progress.part(0.0 if job.only_streams else ALIGNING, "aligning")
        transport = made(job, session, tuned, scale, finding)
        cost = _cost(transport)
        if in_memory:
            _ = transport.tensors  # which are written from there
        report = write_transport(job, transport, output, hashes, started, progress)
        force = job.settings.force or len(shards) > 1  # what an earlier run has left
        write_beside(output.place, beside, dtype=job.dtype, force=force)
        notes = tuple(dict.fromkeys([*(cost.notes if cost else ()), *report.notes, *left_out]))
        report = replace(report, notes=notes, files=(*output.files, *beside, CARD))
        facts = facts_for(title, options, report, cost, session.reference, (*job.inputs, *job.reads))
        write_bytes(output.place / CARD, card(facts).encode(), force=force)
    return report, transport


def _cost(transport: Transport) -> Cost | None:
    """The losses of all networks, where there are data with labels to measure them on."""
    testbed = transport.session.testbed
    if testbed is None or testbed.loss is None:
        return None
    networks = [(one.called, one) for one in transport.inputs]
    return Cost(measured_networks(testbed, [*networks, (TUNED, transport.tensors)]), notes=testbed.says)
