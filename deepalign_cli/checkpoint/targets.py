"""Whether an output may be written at all: the checks that cost nothing, made before long work."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from deepalign_cli.errors import OutputError, UsageError


def check_output(path: str | Path, *, force: bool, inputs: Sequence[Path]) -> None:
    """Refuse an output that is an input, that exists (unless `force`), or that cannot be written.

    A folder among `inputs` stands for every file in it.

    Raises UsageError; OutputError where the folder is missing or may not be written to.
    """
    path = Path(path)
    target = real_target(path)
    existing = _status(target)
    if existing is not None:
        for source in inputs:
            if _is_same(existing, Path(source)):
                raise UsageError(f"{path} is one of the inputs", "name another output")
        if not stat.S_ISREG(existing.st_mode):
            what = "a folder" if stat.S_ISDIR(existing.st_mode) else "not a regular file"
            raise UsageError(f"{path} is {what}", "name a file to write")
        if not force:
            raise UsageError(f"{path} exists", "name another output, or overwrite it with --force")
    _check_folder(path, target.parent)


def real_target(path: Path) -> Path:
    """The file that is written: where the output is a link, what it points to.

    Raises OutputError where it is not a path.
    """
    try:
        return Path(os.path.realpath(path))
    except ValueError:
        raise OutputError(f"{str(path)!a} is not a path", "name another output") from None


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a path"
        raise OutputError(f"{path} cannot be written: {reason}", "name another output") from None


def _is_same(existing: os.stat_result, source: Path) -> bool:
    if source.is_dir():
        return any(_is_same(existing, entry) for entry in source.iterdir() if entry.is_file())
    status = _status(source)
    return status is not None and os.path.samestat(status, existing)


def _check_folder(path: Path, folder: Path) -> None:
    if not folder.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {folder}", "make the folder first")
    if not os.access(folder, os.W_OK | os.X_OK):
        message = f"{path} cannot be written: no permission for the folder {folder}"
        raise OutputError(message, "name another folder")
