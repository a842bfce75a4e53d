"""LoRA adapters in `merge` from Python: folders in, a state dict under peft's names out."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepalign_cli.api.results import Merged
from deepalign_cli.errors import UsageError
from deepalign_cli.operations.adapters import Adapter, find_adapters
from deepalign_cli.operations.align import notes_of_pairs
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import Merging
from deepalign_cli.operations.merge_adapters import FACTORS, MergedAdapter, check_adapters, merge_adapters
from deepalign_cli.operations.session import Session
from deepalign_cli.operations.settings import NAIVE, Settings
from deepalign_cli.operations.transport_adapter import carried, write_carried

_ALLOWED = ("seed", "force")


def adapters_of(networks: Sequence[object], key: str | None = None) -> tuple[Adapter, ...]:
    """The networks as adapters; none where one is in memory, or none of them is one.

    Raises:
        MismatchError: some are adapters and some are not, or one is of a kind that is not merged.
    """
    paths = [Path(one) for one in networks if isinstance(one, str | os.PathLike)]
    return find_adapters(tuple(paths), key) if len(paths) == len(networks) else ()


def merged_adapters(
    adapters: Sequence[Adapter], merging: Merging, rank: int | None, out: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> Merged:  # fmt: skip
    """The adapter that several are merged into; `options` are the others that were given.

    Raises:
        UsageError: one of them has no effect on adapters. DeepalignError: the adapters do not fit.
    """
    used = {name: value for name, value in options.items() if name not in _ALLOWED}
    check_idle_for_adapters(used, "adapters of one base are merged as they are, not aligned")
    if out is None:
        merged = MergedAdapter(adapters, merging, rank)
        tensors = merged.tensors()
        return Merged(tensors, (), tuple(dict.fromkeys(merged.notes())))
    paths = tuple(file for one in adapters for file in one.checkpoint.files)
    settings = Settings(NAIVE, force=options.get("force", False))
    report = merge_adapters(Job(paths, Path(out), settings), adapters, merging, rank)
    written = open_network(Path(out) / FACTORS)
    named = {info.stored_name: written[name] for name, info in written.infos.items()}
    return Merged(named, (), report.notes)


def check_idle_for_adapters(options: Mapping[str, Any], why: str = "") -> None:
    """Raise UsageError where one of these options, none of which adapters have a use for, was given."""
    idle = [name for name, value in options.items() if value is not None]
    if idle:
        hint = f"leave it out: {why}." if why else "leave it out."
        raise UsageError(f"'{idle[0]}' has no effect on LoRA adapters.", hint)


def carried_adapter(
    session: Session, adapter: Adapter, scale: float, out: str | os.PathLike[str] | None
) -> Merged:
    """The adapter of base B that one of base A is carried to; the session holds base B and base A.

    Raises:
        UsageError: the output may not be written. DeepalignError: the adapter does not fit base A.
    """
    if out is None:
        alignment, tensors = carried(session, adapter, scale)
        notes = notes_of_pairs(session.inputs, [alignment])
        return Merged(tensors, (alignment,), tuple(dict.fromkeys(notes)))
    paths = tuple(file for one in (*session.inputs, adapter.checkpoint) for file in one.files)
    job = Job(paths, Path(out), session.settings)
    check_adapters(job)
    report, tensors = write_carried(job, session, adapter, scale, time.perf_counter())
    return Merged(tensors, report.alignments, report.notes)
