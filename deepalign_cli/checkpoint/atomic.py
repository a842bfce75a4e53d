"""A file that appears under its name complete or not at all.

On Linux it has no name until it is complete (O_TMPFILE), so a kill leaves nothing behind; elsewhere it is
`.NAME.RANDOM.partial` beside the target, removed on any error.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.errors import OutputError, UsageError

_NO_TMPFILE = (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL)
_NO_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_CHUNK = 1 << 26  # a system call takes at most 2 GB
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def atomic_file(path: Path, size: int, *, force: bool) -> Iterator[int]:
    """A descriptor of a new file with room for `size` bytes, which becomes `path` when the block ends well.

    Raises OutputError where the disk is full or may not be written; UsageError where `path` has come into
    being meanwhile and `force` is not given.
    """
    target = real_target(path)
    with _reported(path, size, target.parent):
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield from _written(path, target.name, folder, size, force)
        finally:
            os.close(folder)


def write_bytes(path: Path, data: bytes, *, force: bool) -> None:
    """Write a small file as `atomic_file` does.

    Raises OutputError, UsageError: as there.
    """
    with atomic_file(path, len(data), force=force) as file:
        write_all(file, data)


def write_all(file: int, data: bytes | memoryview) -> None:
    """Write to a descriptor until nothing is left."""
    view, done = memoryview(data), 0
    while done < len(view):
        done += os.write(file, view[done : done + _CHUNK])


def _written(path: Path, name: str, folder: int, size: int, force: bool) -> Iterator[int]:
    file, temporary = _create(name, folder)
    try:
        _reserve(file, size)
        yield file
        os.fsync(file)
        _publish(file, temporary, path, name, folder, force)
        os.fsync(folder)
    finally:
        os.close(file)
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)


def _create(name: str, folder: int) -> tuple[int, str | None]:
    """A descriptor, and the name of the file if it needs one."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)
    if hasattr(os, "O_TMPFILE") and Path("/proc/self/fd").is_dir():
        try:
            return os.open(".", flags | os.O_TMPFILE, 0o666, dir_fd=folder), None
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
    temporary = _partial(name)
    return os.open(temporary, flags | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder), temporary


def _partial(name: str) -> str:
    stem = os.fsdecode(os.fsencode(name)[:200])  # room for the rest within the 255 bytes of a name
    return f".{stem}.{secrets.token_hex(8)}.partial"


def _reserve(file: int, size: int) -> None:
    """Take the space now, so that a full disk is known before any work is done."""
    if size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
        except OSError as error:
            if error.errno not in _NO_RESERVE:
                raise


def _publish(file: int, temporary: str | None, path: Path, name: str, folder: int, force: bool) -> None:
    """Give the file its name, in one step; a temporary name is the caller's to remove."""
    try:
        _link(temporary or f"/proc/self/fd/{file}", name, folder)
        return
    except FileExistsError:
        if not force:
            raise UsageError(f"{path} exists", "name another output, or overwrite it with --force") from None
    except OSError:
        if temporary is None:
            raise
    _replace(temporary, file, name, folder)  # it is there already, or the file system has no hard links


def _link(source: str, name: str, folder: int) -> None:
    os.link(source, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=True)


def _replace(temporary: str | None, file: int, name: str, folder: int) -> None:
    beside = temporary or _partial(name)
    try:
        if temporary is None:
            _link(f"/proc/self/fd/{file}", beside, folder)
        os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise


@contextmanager
def _reported(path: Path, size: int, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            message = f"{path} needs {size} bytes, but {_room(folder)}"
            raise OutputError(message, "free some, or write elsewhere") from None
        message = f"{path} cannot be written: {error.strerror or type(error).__name__}"
        raise OutputError(message, "check the folder and its permissions") from None


def _room(folder: Path) -> str:
    try:
        status = os.statvfs(folder)
    except OSError:
        return "there is no room for them"
    return f"only {status.f_bavail * status.f_frsize} are free on its disk"
