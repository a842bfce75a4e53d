"""sha256 of files and of folders of shards, which may be begun before anybody asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread

from deepalign_cli.checkpoint.files import Stamp, open_unchanged

_CHUNK = 1 << 18  # stays in the processor's cache
_LONG = 1 << 24  # while modules are imported, which seldom let other threads go on
_WORTH = 1 << 28  # bytes of a checkpoint; below, the hash is there soon enough

_BEGUN: dict[tuple[Path, Stamp], Future[str]] = {}


def begin_hashing(files: Mapping[Path, Stamp]) -> None:
    """Have a thread hash the files of a large checkpoint; whoever asks for them next waits for that."""
    if sum(stamp.size for stamp in files.values()) < _WORTH:
        return
    begun = {(path, files[path]): Future[str]() for path in _in_order(files)}
    _BEGUN.update(begun)

    def run() -> None:
        for (path, stamp), future in begun.items():
            try:
                future.set_result(_digest(path, stamp, None, _LONG))
            except BaseException as error:  # told to who asks
                future.set_exception(error)

    Thread(target=run, name="sha256-ahead", daemon=True).start()


def sha256_of_file(path: Path, stamp: Stamp, stop: Event | None = None) -> str:
    """The digest in hexadecimal.

    Raises CheckpointError where the file has changed since it was opened; CancelledError after `stop` is set.
    """
    begun = _BEGUN.pop((path, stamp), None)
    while begun is not None:
        try:
            return begun.result(timeout=0.1)
        except TimeoutError:
            if stop is not None and stop.is_set():
                raise CancelledError from None
    return _digest(path, stamp, stop)


def _digest(path: Path, stamp: Stamp, stop: Event | None, chunk: int = _CHUNK) -> str:
    digest, buffer = hashlib.sha256(), bytearray(chunk)
    with open_unchanged(path, stamp, buffering=0) as file:
        while count := file.readinto(buffer):  # type: ignore[attr-defined]
            if stop is not None and stop.is_set():
                raise CancelledError
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def sha256_of_files(files: Mapping[Path, Stamp], threads: int = 4, stop: Event | None = None) -> str:
    """One file's digest; of several, the digest of their digests (as bytes) in the order of their names.

    In one thread they are read one after another, as a program that reads their tensors in order reads them.

    Raises as `sha256_of_file` does.
    """
    paths = _in_order(files)
    if len(paths) == 1:
        return sha256_of_file(paths[0], files[paths[0]], stop)
    with ThreadPoolExecutor(threads) as pool:
        digests = list(pool.map(lambda path: sha256_of_file(path, files[path], stop), paths))
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def _in_order(files: Mapping[Path, Stamp]) -> list[Path]:
    return sorted(files, key=lambda path: path.name)
