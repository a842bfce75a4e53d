"""The header of a safetensors file, checked in full; no tensor is read.

The format: 8 bytes, the header's length (little-endian); the header, JSON; then the tensors' bytes, each
after the other, without holes or overlaps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from deepalign_cli.checkpoint.files import read_exactly
from deepalign_cli.checkpoint.info import DTYPES, Contents, TensorInfo, check_shape
from deepalign_cli.checkpoint.names import check_name
from deepalign_cli.checkpoint.problems import Malformed, shown
from deepalign_cli.checkpoint.strict_json import parse_json

MAX_HEADER = 100_000_000
METADATA = "__metadata__"


def read_safetensors(file: BinaryIO, path: Path, size: int) -> Contents:
    """What the file holds, in the order in which it lies there.

    Raises Malformed where anything about the header is wrong.
    """
    length = int.from_bytes(read_exactly(file, 0, 8, "the header's length"), "little")
    if length > size - 8:
        raise Malformed(f"the header's length is given as {length} bytes, but the file has {size}")
    if length > MAX_HEADER:
        raise Malformed(f"the header is {length} bytes long, more than {MAX_HEADER}")
    header = parse_json(read_exactly(file, 8, length, "its header"), "the header")
    if not isinstance(header, dict):
        raise Malformed("the header is not a JSON object")
    metadata = _metadata(header.pop(METADATA, None))
    start = 8 + length
    tensors = [_tensor(name, entry, path, start) for name, entry in header.items()]
    tensors.sort(key=lambda info: (info.offset, info.nbytes))
    _check_cover(tensors, start, size)
    return Contents((*tensors, *_aliases(tensors, metadata)), metadata)


def _aliases(tensors: list[TensorInfo], metadata: Mapping[str, str]) -> list[TensorInfo]:
    """Tensors that safetensors' `save_model` left out, as the metadata say which others they are."""
    stored = {info.name: info for info in tensors}
    pairs = [(check_name(key), stored[first]) for key, first in metadata.items() if first in stored]
    return [
        replace(info, name=key, stored_name=key, tied_to=info.name, is_implied=True)
        for key, info in pairs
        if key not in stored and key != "format"
    ]


def _metadata(table: object) -> Mapping[str, str]:
    if table is None:  # MLX writes null
        return {}
    if not isinstance(table, dict):
        raise Malformed("the header's metadata is not an object")
    for key, value in table.items():
        if not isinstance(value, str):
            raise Malformed(f"the header's metadata {shown(key)} is not text")
    return table


def _tensor(name: str, entry: object, path: Path, start: int) -> TensorInfo:
    check_name(name)
    what = f"tensor {shown(name)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise Malformed(f"{what} is not described by dtype, shape and data_offsets")
    dtype = entry["dtype"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        hint = f"convert it to one of {', '.join(DTYPES)}"
        raise Malformed(f"{what} has the type {shown(dtype)}, which deepalign does not read", hint)
    shape = check_shape(entry["shape"], what)
    begin, end = _offsets(entry["data_offsets"], what)
    needed = math.prod(shape) * DTYPES[dtype].itemsize
    if end - begin != needed:
        raise Malformed(f"{what} has {end - begin} bytes where its type and shape need {needed}")
    return TensorInfo(name, name, dtype, shape, None, path, start + begin)


def _offsets(pair: object, what: str) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2 or any(type(at) is not int for at in pair):
        raise Malformed(f"{what} has data_offsets that are not two whole numbers")
    begin, end = pair
    if not 0 <= begin <= end:
        raise Malformed(f"{what} has data_offsets that run backwards")
    return begin, end


def _check_cover(tensors: list[TensorInfo], start: int, size: int) -> None:
    at = start
    for info in tensors:
        if info.offset < at:
            raise Malformed(f"tensor {shown(info.name)} overlaps the one before it")
        if info.offset > at:
            raise Malformed(f"there is a hole of {info.offset - at} bytes before tensor {shown(info.name)}")
        at += info.nbytes
        if at > size:
            raise Malformed(f"tensor {shown(info.name)} ends at byte {at}, but the file has {size}")
    if at != size:
        raise Malformed(f"the tensors end at byte {at}, but the file has {size}")
