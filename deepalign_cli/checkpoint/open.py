"""`open_checkpoint`: find out by content what a path is, and read its headers."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import BinaryIO

from deepalign_cli.checkpoint import foreign
from deepalign_cli.checkpoint.checkpoint import Checkpoint
from deepalign_cli.checkpoint.files import Stamp, open_regular
from deepalign_cli.checkpoint.folder import find_weights, read_config, read_shards
from deepalign_cli.checkpoint.hub import fetch, is_reference, parse_reference
from deepalign_cli.checkpoint.info import Contents
from deepalign_cli.checkpoint.old_file import read_old_pytorch
from deepalign_cli.checkpoint.problems import Malformed, blame
from deepalign_cli.checkpoint.pytorch_file import read_pytorch
from deepalign_cli.checkpoint.safetensors_file import MAX_HEADER, read_safetensors

_RESAVE = "load it where you trust it, and save it again with a PyTorch of this decade, or as safetensors"

# The first bytes of a pickle of protocol 1 to 5, or of a call in one of protocol 0.
_PICKLE = re.compile(rb"\x80[\1-\5]|\(*c[\w.]+\n[\w.]+\n")


def open_checkpoint(path: str | Path, key: str | None = None) -> Checkpoint:
    """Open a safetensors file, a file of `torch.save`, or a folder of them; only headers are read.

    `key` says which state dict to take of a file of `torch.save` that holds several ("." takes all).
    hf://org/repo[@revision][/file] is fetched first, unless the cache of the Hugging Face Hub holds it.

    Raises UsageError where nothing is there; CheckpointError where it is broken or no checkpoint, or could
    not be fetched; UnsafeCheckpointError where it asks for code to be run.
    """
    if is_reference(path):
        fetched = fetch(parse_reference(path))
        return _open(fetched.path, str(fetched.reference), fetched.notes, key)
    return _open(Path(path), key=key)


def _open(
    path: Path, origin: str | None = None, fetch_notes: tuple[str, ...] = (), key: str | None = None
) -> Checkpoint:
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a parent may not be read
        weights = find_weights(path)
        config, notes = read_config(path)
    else:
        weights, config, notes = path, {}, ()
    if weights.name.endswith(".index.json"):
        contents, stamps = read_shards(weights, partial(read_file, key=key))
    else:
        contents, stamp = read_file(weights, key)
        stamps = {weights: stamp}
    return Checkpoint(path, contents, stamps, config, (*fetch_notes, *notes), origin)


def read_file(path: Path, key: str | None = None) -> tuple[Contents, Stamp]:
    """What one file holds, and its state at this moment.

    Raises UsageError where nothing is there; CheckpointError where it is broken or no checkpoint.
    """
    with open_regular(path) as (file, stamp), blame(path):
        return _reader(file, path, stamp.size, key), stamp


def _reader(file: BinaryIO, path: Path, size: int, key: str | None) -> Contents:
    head = file.read(512)
    if not head:
        raise Malformed("it is empty")
    starts_json = head[8:9] == b"{"
    if starts_json and int.from_bytes(head[:8], "little") <= MAX_HEADER:
        return read_safetensors(file, path, size)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        return read_pytorch(file, path, size, key)
    if known := foreign.by_beginning(head, path):
        raise Malformed(*known)
    if _PICKLE.match(head):
        return read_old_pytorch(file, path, size, key)
    if head[257:262] == b"ustar":
        raise Malformed("it is a tar file, as PyTorch wrote before 2018", _RESAVE)
    if path.suffix == ".safetensors" or starts_json:
        return read_safetensors(file, path, size)
    raise Malformed("it is neither a safetensors file nor one of torch.save", foreign.GIVE)
