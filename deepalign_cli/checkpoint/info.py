"""What is known of a tensor before it is read: its name, type, shape, and where its bytes lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from deepalign_cli.checkpoint.problems import Malformed, shown

MAX_DIMS = 32
MAX_NUMEL = 2**62


class DType(NamedTuple):
    """What a safetensors code for a type means."""

    torch_name: str
    itemsize: int
    is_float: bool


# The codes are those of safetensors.
DTYPES: Mapping[str, DType] = MappingProxyType(
    {
        "F64": DType("float64", 8, True),
        "F32": DType("float32", 4, True),
        "F16": DType("float16", 2, True),
        "BF16": DType("bfloat16", 2, True),
        "F8_E4M3": DType("float8_e4m3fn", 1, True),
        "F8_E4M3FNUZ": DType("float8_e4m3fnuz", 1, True),
        "F8_E5M2": DType("float8_e5m2", 1, True),
        "F8_E5M2FNUZ": DType("float8_e5m2fnuz", 1, True),
        "F8_E8M0": DType("float8_e8m0fnu", 1, True),
        "C64": DType("complex64", 8, False),
        "I64": DType("int64", 8, False),
        "I32": DType("int32", 4, False),
        "I16": DType("int16", 2, False),
        "I8": DType("int8", 1, False),
        "U64": DType("uint64", 8, False),
        "U32": DType("uint32", 4, False),
        "U16": DType("uint16", 2, False),
        "U8": DType("uint8", 1, False),
        "BOOL": DType("bool", 1, False),
    }
)
CODES: Mapping[str, str] = MappingProxyType({kind.torch_name: code for code, kind in DTYPES.items()})


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a checkpoint: `name` is what the program calls it, `stored_name` what the file does."""

    name: str
    stored_name: str
    dtype: str
    shape: tuple[int, ...]
    tied_to: str | None
    file: Path
    offset: int  # of its first element, in bytes from the file's beginning
    strides: tuple[int, ...] | None = None  # in elements; None where the elements lie in row-major order
    is_implied: bool = False  # the file leaves it out and says in its metadata which other one it is

    @property
    def is_float(self) -> bool:
        """Whether the elements are real numbers that can be averaged."""
        return DTYPES[self.dtype].is_float

    @property
    def is_complex(self) -> bool:
        """Whether the elements are complex numbers."""
        return self.dtype == "C64"

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return DTYPES[self.dtype].itemsize

    @property
    def numel(self) -> int:
        """How many elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, laid out without gaps."""
        return self.numel * self.itemsize

    @property
    def span(self) -> int:
        """Bytes in the file from the first element to the end of the last."""
        return extent(self.shape, self.strides) * self.itemsize


@dataclass(frozen=True, slots=True)
class Contents:
    """What one file holds; names and ties are as stored."""

    tensors: tuple[TensorInfo, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    ordered: bool = False
    notes: tuple[str, ...] = ()


def check_shape(shape: object, what: str) -> tuple[int, ...]:
    """The shape as a tuple of non-negative ints whose product a machine can count.

    Raises Malformed, naming `what`.
    """
    if not isinstance(shape, Sequence) or isinstance(shape, str | bytes):
        raise Malformed(f"{what} has a shape that is not a list")
    if len(shape) > MAX_DIMS:
        raise Malformed(f"{what} has {len(shape)} dimensions, more than {MAX_DIMS}")
    total = 1
    for size in shape:
        if type(size) is not int or not 0 <= size <= MAX_NUMEL:
            raise Malformed(f"{what} has the size {shown(size)} in its shape")
        total *= max(size, 1)
    if total > MAX_NUMEL:
        raise Malformed(f"{what} has a shape with more elements than can be counted")
    return tuple(shape)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of a tensor without gaps."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * max(shape[axis + 1], 1)
    return tuple(strides)


def extent(shape: Sequence[int], strides: Sequence[int] | None) -> int:
    """Elements of the memory from the first to the last that such a view touches."""
    if strides is None or 0 in shape:
        return math.prod(shape)
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
