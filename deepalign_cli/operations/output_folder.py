"""Writing a network as a folder: what may be written there, and what belongs to the weights.

In a folder that exists, the files that are written replace old ones, each in one step; the others stay, but
for those of another tokenizer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from deepalign_cli.checkpoint import check_output
from deepalign_cli.checkpoint.atomic import atomic_file, write_all, write_bytes
from deepalign_cli.checkpoint.companions import name_dtype, other_tokenizer
from deepalign_cli.checkpoint.files import open_regular
from deepalign_cli.checkpoint.hub import is_reference
from deepalign_cli.checkpoint.sharding import INDEX, WEIGHTS, Shard, is_weights
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.checkpoint.whole_folder import reported
from deepalign_cli.errors import UsageError
from deepalign_cli.operations.job import Job

_CHUNK = 1 << 20


def check_folder(job: Job, names: Sequence[str]) -> None:
    """Refuse, before any work, a folder to which files of these names could not be written in the end.

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
        in_it = is_weights(source.name) and source.is_file() and source.parent.samefile(folder)
        if in_it:  # what lies there is replaced by new weights
            raise UsageError(f"'{folder}' holds '{source.name}', one of the inputs.", "name another folder.")
    if not job.settings.force:  # else it is not known yet whether there will be shards
        _check_index(folder)
    check_files(job, names)


def check_weights(job: Job, shards: Sequence[Shard]) -> None:
    """Refuse files in the output's folder that must not be overwritten, or would be read in place of it.

    Raises:
        UsageError: there is one.
    """
    if real_target(job.output).is_dir():
        check_files(job, [shard.name for shard in shards])
        if job.settings.force:
            return
        check_files(job, [WEIGHTS, INDEX])


def _check_index(folder: Path) -> None:
    if os.path.lexists(folder / INDEX):
        problem = f"'{folder / INDEX}' would be read in place of the weights."
        raise UsageError(problem, "replace these weights by --force, or name another folder.")


def check_files(job: Job, names: Sequence[str]) -> None:
    """Refuse files in the output's folder that must not be overwritten, or are of another tokenizer.

    Raises:
        UsageError: there is one.
    """
    if real_target(job.output).is_dir():
        inputs = [source for source in job.untouchable if not is_reference(source)]
        for name in names:
            check_output(job.output / name, force=job.settings.force, inputs=inputs)
        for other in [] if job.settings.force else other_tokenizer(job.output, names):
            problem = f"'{other}' is part of another tokenizer, and would be loaded beside what is written."
            raise UsageError(problem, "remove it by --force, or name another folder.")


def write_beside(
    place: Path, beside: Mapping[str, Path], made: Mapping[str, bytes] = MappingProxyType({}), *,
    dtype: str | None = None, force: bool,
) -> None:  # fmt: skip
    """Copy the files that belong to the weights, and write those that are made anew.

    Files of another tokenizer are removed, and a config.json names the type `dtype`. Raises OutputError where
    that is not allowed.
    """
    for name, source in beside.items():
        copy_file(source, place / name, force=force)
    for name, data in made.items():
        write_bytes(place / name, data, force=force)
    with reported(place):
        for path in other_tokenizer(place, {*beside, *made}):
            path.unlink()
    if dtype is not None and "config.json" in (*beside, *made):
        name_dtype(place / "config.json", dtype)


def copy_file(source: Path, target: Path, *, force: bool) -> None:
    """Copy a plain file, whole or not at all."""
    with open_regular(source) as (file, stamp), atomic_file(target, stamp.size, force=force) as out:
        while chunk := file.read(_CHUNK):
            write_all(out, chunk)
