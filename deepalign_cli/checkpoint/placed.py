"""A safetensors file of known size, whose tensors are written in any order and by any thread.

What has been written goes to the disk meanwhile, so that little is left for the sync at the end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.atomic import atomic_file
from deepalign_cli.checkpoint.direct import DirectWriter, can_write_direct
from deepalign_cli.checkpoint.early_sync import EarlySync, pwrite_all
from deepalign_cli.checkpoint.entry import Entry, code_of, encode_header
from deepalign_cli.checkpoint.problems import blame
from deepalign_cli.checkpoint.targets import check_output
from deepalign_cli.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor


class PlacedFile:
    """An open file whose tensors have their places already."""

    def __init__(
        self, file: int, entries: Sequence[Entry], header: bytes, writer: EarlySync | DirectWriter
    ) -> None:
        self._file, self._entries, self._header, self._writer = file, entries, header, writer
        self._places: dict[str, tuple[Entry, int]] = {}
        at = len(header)
        for entry in entries:
            self._places[entry.name] = entry, at
            at += entry.nbytes

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a whole tensor. Raises ValueError where it is not as its entry says."""
        entry, _ = self._places[name]
        if code_of(tensor) != entry.dtype or tuple(tensor.shape) != entry.shape:
            actual, announced = (
                f"{code_of(tensor)} {list(tensor.shape)}",
                f"{entry.dtype} {list(entry.shape)}",
            )
            raise ValueError(f"tensor {name!r} is {actual} where {announced} was announced")
        self.write_part(name, 0, tensor)

    def write_part(self, name: str, start: int, tensor: Tensor) -> None:
        """Write elements of a tensor, from number `start` on in row-major order.

        Raises ValueError where they are of another type, or too many.
        """
        import torch

        entry, at = self._places[name]
        begin = start * tensor.itemsize
        if code_of(tensor) != entry.dtype or begin + tensor.nbytes > entry.nbytes:
            raise ValueError(f"a part of tensor {name!r} does not fit into it")
        if tensor.nbytes:
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            self._writer.write(flat, at + begin)

    def set_metadata(self, metadata: Mapping[str, str]) -> None:
        """Write the header again, with other metadata. Raises ValueError where it is of another length."""
        final = encode_header(self._entries, metadata)
        if len(final) != len(self._header):
            raise ValueError(f"the final header has {len(final)} bytes instead of {len(self._header)}")
        pwrite_all(self._file, final, 0)


def rewrite_metadata(path: Path, entries: Sequence[Entry], metadata: Mapping[str, str]) -> None:
    """Write the header of a whole file again, with metadata of the same length, and bring it to the disk.

    Raises ValueError where they are of another length; OutputError where it cannot be written.
    """
    final = encode_header(entries, metadata)
    try:
        with path.open("r+b") as file:
            size = int.from_bytes(file.read(8), "little")
            if len(final) != 8 + size:
                raise ValueError(f"the final header has {len(final)} bytes instead of {8 + size}")
            pwrite_all(file.fileno(), final, 0)
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}", "check the folder") from None


@contextmanager
def placed_file(
    path: Path, entries: Sequence[Entry], metadata: Mapping[str, str], *, force: bool = False,
    inputs: Sequence[Path] = (), read_again: bool = False,
) -> Iterator[PlacedFile]:  # fmt: skip
    """A file that becomes `path` when the block ends well; `read_again` says that it is read soon after.

    A large one that is not goes past the page cache, where the system can do that.

    Raises UsageError where the output is an input, or exists and `force` is not given; OutputError where it
    cannot be written. Nothing is left behind then.
    """
    check_output(path, force=force, inputs=inputs)
    with blame(path):
        header = encode_header(entries, metadata)
    size = len(header) + sum(entry.nbytes for entry in entries)
    is_direct = not read_again and can_write_direct(size)
    with atomic_file(path, size, force=force) as file:
        pwrite_all(file, header, 0)
        with DirectWriter(file, len(header), size) if is_direct else EarlySync(file) as writer:
            yield PlacedFile(file, entries, header, writer)
