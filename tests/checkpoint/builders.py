"""Files for the tests, made byte by byte, so that they can be wrong in every way."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint, Entry

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def safetensors_bytes(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def described(dtype: str, shape: Sequence[object], begin: object, end: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def torch_zip(
    path: Path,
    pickled: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    byteorder: bytes = b"little",
    extra: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", byteorder)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
        for name, data in (extra or {}).items():
            archive.writestr(f"archive/{name}", data)
    return path


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    raw = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def global_(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def storage(
    key: str = "0", numel: int = 4, kind: bytes = b"ctorch\nFloatStorage\n", tag: str = "storage"
) -> bytes:
    return b"(" + text(tag) + kind + text(key) + text("cpu") + number(numel) + b"tQ"


def tensor(of: bytes, offset: int = 0, shape: Sequence[int] = (4,), strides: Sequence[int] = (1,)) -> bytes:
    hooks = global_("collections", "OrderedDict") + b")R"
    args = b"(" + of + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + hooks + b"t"
    return global_("torch._utils", "_rebuild_tensor_v2") + args + b"R"


def state(**values: bytes) -> bytes:
    """A pickle of a mapping; the values are opcodes."""
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in values.items()) + b"u."


FOUR = {"0": torch.arange(4.0).numpy().tobytes()}


def saved(value: object, *, zipped: bool = True, protocol: int = 2) -> bytes:
    """What torch.save writes, or (not `zipped`) wrote before 1.6."""
    buffer = io.BytesIO()
    torch.save(value, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


class Calls:
    """What pickles as a call of `function`."""

    def __init__(self, function: object, *args: object) -> None:
        self.call = (function, args)

    def __reduce__(self) -> object:
        return self.call


def call(function: object, *args: object) -> bytes:
    """Opcodes that call the function, without the pickle's first and last."""
    return pickle.dumps(Calls(function, *args), 2)[2:-1]


def entries(checkpoint: Checkpoint) -> list[Entry]:
    return [Entry(info.stored_name, info.dtype, info.shape) for info in checkpoint.infos.values()]


def some(dtype: torch.dtype, *shape: int) -> Tensor:
    """Any bytes that are valid elements."""
    if dtype == torch.bool:
        return torch.rand(shape) > 0.5
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape).to(dtype)
    return torch.randint(0, 100, shape).to(dtype)


def same(a: Tensor, b: Tensor) -> bool:
    """Equal in type, shape and every bit."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    return a.contiguous().reshape(-1).view(torch.uint8).equal(b.contiguous().reshape(-1).view(torch.uint8))
