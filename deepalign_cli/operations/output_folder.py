"""Writing a network as a folder: weights, and what belongs to them.

A new folder appears complete or not at all. In one that exists, the files that are written replace old ones,
each in one step; the others stay.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from deepalign_cli.checkpoint import check_output
from deepalign_cli.checkpoint.atomic import atomic_file, write_all, write_bytes
from deepalign_cli.checkpoint.companions import is_tokenizer, name_dtype
from deepalign_cli.checkpoint.files import open_regular
from deepalign_cli.checkpoint.hub import is_reference
from deepalign_cli.checkpoint.sharding import INDEX, WEIGHTS, Shard, is_shard
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.errors import OutputError, UsageError
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


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights that a folder's reader would load, or part of them."""
    return name in (WEIGHTS, INDEX) or is_shard(name)


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


def other_tokenizer(folder: Path, names: Collection[str]) -> list[Path]:
    """The files of a tokenizer in a folder that are not of the one among these names, if there is one."""
    if not any(map(is_tokenizer, names)):
        return []
    return [path for path in sorted(folder.iterdir()) if is_tokenizer(path.name) and path.name not in names]


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


@contextmanager
def created_folder(folder: Path) -> Iterator[Path]:
    """Where to write: the folder if it exists, else a hidden one that becomes it when all went well."""
    target = real_target(folder)
    if target.is_dir():
        yield target
        return
    with hidden_folder(folder) as hidden:
        yield hidden
        with reported(folder):
            publish(hidden, target, folder)


@contextmanager
def hidden_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside another one, with a hidden name; what is left of it at the end is removed."""
    target = real_target(folder)
    hidden = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}.partial"
    with reported(folder):
        hidden.mkdir()
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def reported(folder: Path) -> Iterator[None]:
    """Turn what the system refuses into a sentence. Raises OutputError."""
    try:
        yield
    except OSError as error:
        message = f"'{folder}' cannot be written: {error.strerror or type(error).__name__}."
        raise OutputError(message, "check the folder and its permissions.") from None


def publish(hidden: Path, target: Path, folder: Path) -> None:
    """Give a hidden folder its name. Raises UsageError where that is taken meanwhile."""
    sync_folder(hidden)
    try:
        hidden.rename(target)
    except OSError:
        if not target.exists():
            raise
        raise UsageError(f"'{folder}' exists.", "name another folder.") from None
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path, *, force: bool) -> None:
    """Copy a plain file, whole or not at all."""
    with open_regular(source) as (file, stamp), atomic_file(target, stamp.size, force=force) as out:
        while chunk := file.read(_CHUNK):
            write_all(out, chunk)
