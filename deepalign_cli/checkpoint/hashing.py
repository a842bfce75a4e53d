"""sha256 of files and of folders of shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from threading import Event

from deepalign_cli.checkpoint.files import Stamp, open_unchanged

_CHUNK = 1 << 18  # stays in the processor's cache


def sha256_of_file(path: Path, stamp: Stamp, stop: Event | None = None) -> str:
    """The digest in hexadecimal.

    Raises CheckpointError where the file has changed since it was opened; CancelledError after `stop` is set.
    """
    digest, buffer = hashlib.sha256(), bytearray(_CHUNK)
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
    paths = sorted(files, key=lambda path: path.name)
    if len(paths) == 1:
        return sha256_of_file(paths[0], files[paths[0]], stop)
    with ThreadPoolExecutor(threads) as pool:
        digests = list(pool.map(lambda path: sha256_of_file(path, files[path], stop), paths))
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()
