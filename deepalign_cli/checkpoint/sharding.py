"""Weights in several files and an index, as transformers writes and reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from deepalign_cli.checkpoint.entry import Entry
from deepalign_cli.errors import UsageError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_SHARD = 5_000_000_000
_UNITS = {
    "": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20,
    "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?b)?", re.IGNORECASE)
_SHARD = re.compile(r"model-\d{5,}-of-\d{5,}\.safetensors")


@dataclass(frozen=True)
class Shard:
    """One file of several, or the only one."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return sum(entry.nbytes for entry in self.entries)


def split(entries: Sequence[Entry], most: int) -> tuple[Shard, ...]:
    """Tensors, in order, in as few files of at most `most` bytes as that takes; a larger one is by itself.

    >>> entries = [Entry(name, "U8", (size,)) for name, size in (("a", 3), ("b", 3), ("c", 9), ("d", 1))]
    >>> for shard in split(entries, 6):
    ...     print(shard.name, [entry.name for entry in shard.entries])
    model-00001-of-00003.safetensors ['a', 'b']
    model-00002-of-00003.safetensors ['c']
    model-00003-of-00003.safetensors ['d']
    """
    files: list[list[Entry]] = [[]]
    room = most
    for entry in entries:
        if files[-1] and entry.nbytes > room:
            files.append([])
            room = most
        files[-1].append(entry)
        room -= entry.nbytes
    if len(files) == 1:
        return (Shard(WEIGHTS, tuple(entries)),)
    names = (f"model-{number:05}-of-{len(files):05}.safetensors" for number in range(1, len(files) + 1))
    return tuple(Shard(name, tuple(file)) for name, file in zip(names, files, strict=True))


def encode_index(shards: Sequence[Shard]) -> bytes:
    """The index: which file holds each tensor, and how many bytes all of them have."""
    homes = {entry.name: shard.name for shard in shards for entry in shard.entries}
    total = {"total_size": sum(shard.nbytes for shard in shards)}
    return (json.dumps({"metadata": total, "weight_map": homes}, indent=2, sort_keys=True) + "\n").encode()


def is_shard(name: str) -> bool:
    """Whether a file of this name is one of several that `split` names."""
    return _SHARD.fullmatch(name) is not None


def is_weights(name: str) -> bool:
    """Whether a file of this name holds weights that a folder's reader would load, or part of them."""
    return name in (WEIGHTS, INDEX) or is_shard(name)


def parse_size(text: str) -> int:
    """Bytes, as they are typed: 5GB, 500MB, 1.5GiB, or a plain number.

    Raises:
        UsageError: it is none, or less than one byte.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get((match[2] or "").upper()) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if size < 1:
        raise UsageError(f"'{text}' is not a size.", "for example --max-shard-size 5GB or 500MB.")
    return size
