"""From a `TensorInfo` to a tensor."""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from deepalign_cli.checkpoint.files import Stamp, open_unchanged
from deepalign_cli.checkpoint.info import DTYPES, TensorInfo
from deepalign_cli.checkpoint.problems import blame, shown
from deepalign_cli.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

MAP_FROM = 1 << 20  # bytes; below, a read is cheaper than a mapping
_POPULATE_READ = 22  # MADV_POPULATE_READ of Linux 5.14, which `mmap` does not name


def read_tensor(info: TensorInfo, stamp: Stamp) -> Tensor:
    """The tensor, contiguous, over memory that nobody else holds.

    A large one is mapped copy-on-write: its pages come from the file as they are touched, writing to it
    changes no file, and the mapping goes when the tensor does.

    Raises CheckpointError where the file has changed since it was opened.
    """
    import torch

    dtype = torch_type(info)
    if info.numel == 0:
        return torch.empty(info.shape, dtype=dtype)
    with open_unchanged(info.file, stamp) as file, blame(info.file):
        buffer, start = _bytes_of(file, info)
    flat = torch.frombuffer(buffer, dtype=dtype, count=info.span // info.itemsize, offset=start)
    if info.strides is None:
        return flat.view(info.shape)
    return flat.as_strided(info.shape, info.strides).contiguous()


def read_flat(info: TensorInfo, stamp: Stamp, start: int, stop: int) -> Tensor:
    """Elements `start` to `stop` of a tensor in row-major order, read into memory of their own.

    Raises CheckpointError where the file has changed since it was opened.
    """
    import torch

    if info.strides is not None or info.numel == 0:
        return read_tensor(info, stamp).reshape(-1)[start:stop]
    flat = torch.empty(stop - start, dtype=torch_type(info))
    with open_unchanged(info.file, stamp, buffering=0) as file, blame(info.file):
        _read_into(file, info.offset + start * info.itemsize, flat.view(torch.uint8).numpy().data)
    return flat


def torch_type(info: TensorInfo) -> torch.dtype:
    """The type of the tensor's elements. Raises CheckpointError where this PyTorch has none."""
    import torch

    dtype = getattr(torch, DTYPES[info.dtype].torch_name, None)
    if dtype is None:
        hint = "install a newer PyTorch"
        raise CheckpointError(f"{info.file}: this PyTorch has no type for tensor {shown(info.name)}", hint)
    return dtype  # type: ignore[no-any-return]


def _bytes_of(file: BinaryIO, info: TensorInfo) -> tuple[mmap.mmap | bytearray, int]:
    """A writable buffer of its own, and where the tensor begins in it."""
    if info.span >= MAP_FROM and info.offset % info.itemsize == 0:
        # Each mapping holds a file descriptor, of which there may be no more: then we read.
        with suppress(OSError, ValueError):
            return _map(file, info.offset, info.span)
    return _read(file, info.offset, info.span), 0


def _map(file: BinaryIO, offset: int, size: int) -> tuple[mmap.mmap, int]:
    start = offset % mmap.ALLOCATIONGRANULARITY
    window = mmap.mmap(file.fileno(), start + size, access=mmap.ACCESS_COPY, offset=offset - start)
    if hasattr(window, "madvise"):
        with suppress(OSError):  # an older kernel: the pages come one by one
            window.madvise(_POPULATE_READ)
    return window, start


def _read(file: BinaryIO, offset: int, size: int) -> bytearray:
    data = bytearray(size)
    _read_into(file, offset, memoryview(data))
    return data


def _read_into(file: BinaryIO, offset: int, view: memoryview) -> None:
    done = 0
    file.seek(offset)
    while done < len(view):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise CheckpointError(f"{os.fspath(file.name)} has become shorter since it was opened")
        done += count
