"""Writing safetensors files, one tensor in memory at a time."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.atomic import atomic_file, write_all
from deepalign_cli.checkpoint.info import CODES, DTYPES
from deepalign_cli.checkpoint.names import check_name
from deepalign_cli.checkpoint.problems import blame
from deepalign_cli.checkpoint.safetensors_file import METADATA
from deepalign_cli.checkpoint.targets import check_output

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Entry:
    """A tensor to be written; `name` is as the file shall have it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def write_safetensors(
    path: str | Path,
    entries: Sequence[Entry],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    *,
    force: bool = False,
    inputs: Sequence[Path] = (),
    finish: Callable[[], Mapping[str, str]] | None = None,
) -> None:
    """Write `read(entry.name)` for each entry, in order; the file appears complete or not at all.

    `finish` is called after the last tensor; the metadata it returns takes the place of `metadata`, and must
    be just as long (sha256 values that were computed meanwhile, in place of 64 zeros).

    Raises UsageError where the output is an input, or exists and `force` is not given; OutputError where it
    cannot be written; ValueError where a tensor is not as its entry says. Nothing is left behind then.
    """
    path = Path(path)
    check_output(path, force=force, inputs=inputs)
    with blame(path):
        header = encode_header(entries, metadata)
    with atomic_file(path, len(header) + sum(entry.nbytes for entry in entries), force=force) as file:
        write_all(file, header)
        for entry in entries:
            _write_tensor(file, entry, read(entry.name))
        if finish is not None:
            final = encode_header(entries, finish())
            if len(final) != len(header):
                raise ValueError(f"the final header has {len(final)} bytes instead of {len(header)}")
            os.lseek(file, 0, os.SEEK_SET)
            write_all(file, final)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, force: bool = False
) -> None:
    """Write tensors that are in memory, as `write_safetensors` does.

    Raises UsageError, OutputError: as there.
    """
    entries = [Entry(name, _code(w), tuple(w.shape)) for name, w in tensors.items()]
    write_safetensors(path, entries, tensors.__getitem__, metadata, force=force)


def _code(tensor: Tensor) -> str:
    """The type's code; of a type that the format lacks, its name."""
    name = str(tensor.dtype).removeprefix("torch.")
    return CODES.get(name, name)


def encode_header(entries: Sequence[Entry], metadata: Mapping[str, str]) -> bytes:
    """The length and the JSON header, padded so that the tensors begin at a multiple of 8.

    Raises Malformed where a name cannot be written; ValueError where one is there twice.
    """
    table: dict[str, object] = {METADATA: dict(metadata)} if metadata else {}
    at = 0
    for entry in entries:
        if check_name(entry.name) in table:
            raise ValueError(f"two tensors to be written are named {entry.name!r}")
        end = at + entry.nbytes
        table[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_tensor(file: int, entry: Entry, tensor: Tensor) -> None:
    import torch

    if _code(tensor) != entry.dtype or tuple(tensor.shape) != entry.shape:
        actual, announced = f"{_code(tensor)} {list(tensor.shape)}", f"{entry.dtype} {list(entry.shape)}"
        raise ValueError(f"tensor {entry.name!r} is {actual} where {announced} was announced")
    if entry.nbytes:
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        write_all(file, flat.numpy().data)
