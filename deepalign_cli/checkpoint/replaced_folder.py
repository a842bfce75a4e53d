"""A folder in the place of another one, in one step, with the files of that one that are not weights."""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepalign_cli.checkpoint.companions import other_tokenizer
from deepalign_cli.checkpoint.sharding import is_weights
from deepalign_cli.checkpoint.targets import real_target
from deepalign_cli.checkpoint.whole_folder import hidden_folder, reported, sync_folder

_AT_FDCWD, _EXCHANGE = -100, 2  # of Linux


@contextmanager
def exchanged_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder to write to, which takes the place of one that exists when all went well.

    Raises:
        OutputError: it cannot be written.
    """
    with hidden_folder(folder) as hidden:
        yield hidden
        with reported(folder):
            replace_folder(hidden, real_target(folder))


def replace_folder(new: Path, old: Path) -> None:
    """Give `new` the place of `old`, and what else lies in `old`.

    Old weights and what there is anew go, and where there is a tokenizer anew, all files of the old one.

    Files are linked into `new` before, so that they are there at any moment; folders move after.

    Raises:
        OSError: a file cannot be linked or a folder renamed; both folders are there still.
    """
    gone = {path.name for path in other_tokenizer(old, {path.name for path in new.iterdir()})}
    for entry in os.scandir(old):
        if entry.is_file(follow_symlinks=False) and not is_weights(entry.name) and entry.name not in gone:
            _link(Path(entry.path), new / entry.name)
    shutil.copymode(old, new)
    sync_folder(new)
    _exchange(new, old)  # from here on `old` is the new one
    sync_folder(old.parent)
    for entry in os.scandir(new):
        if not entry.is_file(follow_symlinks=False) and not os.path.lexists(old / entry.name):
            Path(entry.path).rename(old / entry.name)
    shutil.rmtree(new, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    if os.path.lexists(target):  # there is a new version
        return
    try:
        os.link(source, target, follow_symlinks=False)
    except PermissionError:  # a file system without links
        shutil.copy2(source, target)


def _exchange(new: Path, old: Path) -> None:
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # another C library
        _exchange_in_steps(new, old)
        return
    if call(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _EXCHANGE):
        _exchange_in_steps(new, old)


def _exchange_in_steps(new: Path, old: Path) -> None:
    """The same where the file system cannot: for a moment there is neither, and both under hidden names."""
    aside = new.with_name(f"{new.name}.old")
    old.rename(aside)
    new.rename(old)
    aside.rename(new)
