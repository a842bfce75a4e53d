"""Tensors that are to be written, and the header of the safetensors file that will hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.info import CODES, DTYPES
from deepalign_cli.checkpoint.names import check_name
from deepalign_cli.checkpoint.safetensors_file import METADATA

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


def code_of(tensor: Tensor) -> str:
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
