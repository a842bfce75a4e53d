"""LoRA adapters in `merge` from Python: folders in, a state dict under peft's names out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepalign_cli.api.results import Merged
from deepalign_cli.errors import UsageError
from deepalign_cli.operations.adapters import Adapter, find_adapters
from deepalign_cli.operations.inputs import open_network
from deepalign_cli.operations.job import Job
from deepalign_cli.operations.merge import Merging
from deepalign_cli.operations.merge_adapters import FACTORS, MergedAdapter, merge_adapters
from deepalign_cli.operations.settings import NAIVE, Settings

_ALLOWED = ("seed", "force")


def adapters_of(networks: Sequence[object]) -> tuple[Adapter, ...]:
    """The networks as adapters; none where one is in memory, or none of them is one.

    Raises:
        MismatchError: some are adapters and some are not, or one is of a kind that is not merged.
    """
    paths = [Path(one) for one in networks if isinstance(one, str | os.PathLike)]
    return find_adapters(tuple(paths)) if len(paths) == len(networks) else ()


def merged_adapters(
    adapters: Sequence[Adapter], merging: Merging, rank: int | None, out: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> Merged:  # fmt: skip
    """The adapter that several are merged into; `options` are the others that were given.

    Raises:
        UsageError: one of them has no effect on adapters. DeepalignError: the adapters do not fit.
    """
    idle = [name for name, value in options.items() if name not in _ALLOWED and value is not None]
    if idle:
        problem = f"'{idle[0]}' has no effect on LoRA adapters, which are not aligned."
        raise UsageError(problem, "leave it out: adapters of one base are merged as they are.")
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
