"""sha256 of files and of folders of shards."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deepalign_cli.checkpoint.files import Stamp, open_unchanged


def sha256_of_file(path: Path, stamp: Stamp) -> str:
    """The digest in hexadecimal.

    Raises CheckpointError where the file has changed since it was opened.
    """
    with open_unchanged(path, stamp) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def sha256_of_files(files: Mapping[Path, Stamp]) -> str:
    """One file's digest; of several, the digest of their digests (as bytes) in the order of their names."""
    paths = sorted(files, key=lambda path: path.name)
    if len(paths) == 1:
        return sha256_of_file(paths[0], files[paths[0]])
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = list(pool.map(lambda path: sha256_of_file(path, files[path]), paths))
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()
