"""A folder that appears complete or not at all: it is written under a hidden name, and renamed."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.errors import OutputError, UsageError


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
