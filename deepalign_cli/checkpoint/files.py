"""Opening regular files, and noticing when one has changed since."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from deepalign_cli.checkpoint.problems import Malformed
from deepalign_cli.errors import CheckpointError, UsageError


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which file a path led to when it was opened, and what state that was in."""

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def seen_at(self, path: Path) -> Stamp:
        """The stamp of the same file as this host sees it, where devices and inodes may have other numbers.

        Raises CheckpointError where it is not there, or not of the same size and time.
        """
        hint = "all hosts must see the same files at the same paths"
        try:
            now = Stamp.of(path.stat())
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read on another host: {error.strerror}", hint) from None
        if (now.size, now.modified) != (self.size, self.modified):
            raise CheckpointError(f"{path} is another file on another host", hint)
        return now


@contextmanager
def open_regular(path: Path, buffering: int = -1) -> Iterator[tuple[BinaryIO, Stamp]]:
    """Open a regular file for reading, and say what it was like.

    Raises UsageError where there is no such file or it may not be read; CheckpointError where it is
    not a regular file or reading fails.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block on open
            raise CheckpointError(f"{path} is not a regular file", "give a checkpoint or a folder with one")
        file = path.open("rb", buffering=buffering)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, error) from None
    with file:
        try:
            yield file, Stamp.of(os.fstat(file.fileno()))
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}", "check its disk") from None


@contextmanager
def open_unchanged(path: Path, stamp: Stamp, buffering: int = -1) -> Iterator[BinaryIO]:
    """Open a file that was opened before.

    Raises CheckpointError where it is gone or has changed.
    """
    hint = "run the command again, and let nothing write to the file meanwhile"
    try:
        with open_regular(path, buffering) as (file, now):
            if now != stamp:
                how = "has become shorter" if now.size < stamp.size else "has changed"
                raise CheckpointError(f"{path} {how} since it was opened", hint)
            yield file
    except UsageError as error:
        raise CheckpointError(f"{error.message} any more", hint) from None


def read_exactly(file: BinaryIO, offset: int, size: int, what: str) -> bytes:
    """`size` bytes from `offset`, which the caller has checked against its limit.

    Raises Malformed where the file ends before.
    """
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise Malformed(f"the file ends inside {what}")
    return data


def _cannot_open(path: Path, error: OSError | ValueError) -> UsageError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return UsageError(f"{path} does not exist", "check the path")
    if isinstance(error, OSError):
        return UsageError(f"{path} cannot be opened: {error.strerror}", "check its permissions")
    return UsageError(f"{str(path)!a} is not a path", "check the path")
