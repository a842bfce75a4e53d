"""A safetensors file of known size, whose tensors are written in any order and by any thread.

What has been written goes to the disk meanwhile, so that little is left for the sync at the end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.atomic import atomic_file
from deepalign_cli.checkpoint.entry import Entry, code_of, encode_header
from deepalign_cli.checkpoint.problems import blame
from deepalign_cli.checkpoint.targets import check_output
from deepalign_cli.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor

_SYNC_EVERY = 64 * 2**20  # bytes


class PlacedFile:
    """An open file whose tensors have their places already."""

    def __init__(self, file: int, entries: Sequence[Entry], header: bytes, syncing: EarlySync) -> None:
        self._file, self._entries, self._header, self._syncing = file, entries, header, syncing
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
            pwrite_all(self._file, flat.numpy().data, at + begin)
            self._syncing.wrote(tensor.nbytes)

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
    inputs: Sequence[Path] = (),
) -> Iterator[PlacedFile]:  # fmt: skip
    """A file that becomes `path` when the block ends well.

    Raises UsageError where the output is an input, or exists and `force` is not given; OutputError where it
    cannot be written. Nothing is left behind then.
    """
    check_output(path, force=force, inputs=inputs)
    with blame(path):
        header = encode_header(entries, metadata)
    size = len(header) + sum(entry.nbytes for entry in entries)
    with atomic_file(path, size, force=force) as file, EarlySync(file) as syncing:
        pwrite_all(file, header, 0)
        yield PlacedFile(file, entries, header, syncing)


def pwrite_all(file: int, data: bytes | memoryview, at: int) -> None:
    """Write to a place of a descriptor until nothing is left."""
    view, done = memoryview(data), 0
    while done < len(view):  # a system call takes at most 2 GB
        done += os.pwrite(file, view[done : done + 2**26], at + done)


class EarlySync:
    """A thread that brings what is written to a descriptor to the disk while more is being computed.

    A failure shows when the block ends: the kernel tells it once only.
    """

    def __init__(self, file: int) -> None:
        self._file, self._error = file, list[OSError]()
        self._wake, self._dirty, self._ends = threading.Condition(), 0, False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> EarlySync:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._wake:
            self._ends = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        if self._error and kind is None:
            raise self._error[0]

    def wrote(self, count: int) -> None:
        """Say that so many bytes were written."""
        with self._wake:
            self._dirty += count
            if self._dirty >= _SYNC_EVERY:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
                    self._thread.start()
                self._wake.notify()

    def _run(self) -> None:
        while not self._error:
            with self._wake:
                self._wake.wait_for(lambda: self._ends or self._dirty >= _SYNC_EVERY)
                if self._ends:
                    return
                self._dirty = 0
            try:
                os.fdatasync(self._file)
            except OSError as error:
                self._error.append(error)
