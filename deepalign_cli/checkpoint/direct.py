"""Writing past the page cache, from any thread.

A copy into the page cache costs more processor time than a merge's arithmetic, and the more the fuller the
cache is of inputs: every page that is written has to be made room for. Disks take whole aligned blocks
without it (O_DIRECT of Linux). Parts of tensors begin anywhere, so they are gathered into such blocks first.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.early_sync import pwrite_all

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 64 * 2**20  # bytes of a file; below, the page cache does no harm
_ALIGNMENT = max(4096, mmap.PAGESIZE)  # of places, sizes, memory; disks ask for 4096, the cache for pages
_BLOCK = 2**20  # bytes
_MOST_OPEN = 64  # blocks that are gathered at one time; what falls into others goes through the page cache


@dataclass
class _Block:
    """Memory of a block of the file, from the byte `start` on; so many bytes of it are there."""

    start: int
    memory: Tensor
    bytes: memoryview
    filled: int = 0


class DirectWriter:
    """Writes bytes `start` to `stop` of a file whose first part, before `start`, somebody else writes.

    Each byte is written once. The ends, which are no whole aligned blocks, go through the page cache; so does
    everything where the file system refuses.
    """

    def __init__(self, file: int, start: int, stop: int) -> None:
        self._cached, self._stop = file, stop
        self._first, self._last = -(-start // _ALIGNMENT) * _ALIGNMENT, stop // _ALIGNMENT * _ALIGNMENT
        self._lock, self._open, self._closed = threading.Lock(), dict[int, _Block](), set[int]()
        self._free: list[tuple[Tensor, memoryview]] = []
        self._direct: int | None = None

    def __enter__(self) -> DirectWriter:
        try:  # a description of its own: what is written to the other one goes through the page cache
            self._direct = os.open(f"/proc/self/fd/{self._cached}", os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError:
            self._last = self._first
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._direct is not None:
            file, self._direct = self._direct, None  # a number that is closed may be another file's soon
            os.close(file)
        if kind is None:
            for block in self._open.values():
                raise RuntimeError(f"the bytes after {block.start} were not all written")

    def write(self, data: Tensor, at: int) -> None:
        """Write bytes [uint8] to their place in the file."""
        place, end = at, at + data.nbytes
        while place < end:
            stop, block = min(end, self._boundary(place)), self._block(place)
            part = data[place - at : stop - at]
            if block is None:
                pwrite_all(self._cached, part.numpy().data, place)
            else:
                block.memory[place - block.start : stop - block.start].copy_(part)
                self._fill(block, stop - place)
            place = stop

    def _boundary(self, place: int) -> int:
        """Where the block ends, or what is written through the page cache, that has this place in it."""
        if not self._first <= place < self._last:
            return self._first if place < self._first else self._stop
        return min(self._start(place) + _BLOCK, self._last)

    def _start(self, place: int) -> int:
        return place - (place - self._first) % _BLOCK

    def _block(self, place: int) -> _Block | None:
        """The block that has this place in it; None for what is not gathered."""
        if not self._first <= place < self._last:
            return None
        start = self._start(place)
        with self._lock:
            if start not in self._open and start not in self._closed:
                if len(self._open) < _MOST_OPEN:
                    self._open[start] = _Block(start, *(self._free.pop() if self._free else _memory()))
                else:
                    self._closed.add(start)
            return self._open.get(start)

    def _fill(self, block: _Block, count: int) -> None:
        """Count what was put into a block, and write it when it is full."""
        size = self._boundary(block.start) - block.start
        with self._lock:
            block.filled += count
            if block.filled < size:
                return
            del self._open[block.start]
        self._write(block.bytes[:size], block.start)
        with self._lock:
            self._free.append((block.memory, block.bytes))

    def _write(self, data: memoryview, at: int) -> None:
        try:
            while data and self._direct is not None:
                done = os.pwrite(self._direct, data, at)
                data, at = data[done:], at + done
        except OSError as error:
            if error.errno != errno.EINVAL:  # it wants another alignment
                raise
        pwrite_all(self._cached, data, at)


def _memory() -> tuple[Tensor, memoryview]:
    """A block of aligned memory, as a tensor [block] and as bytes."""
    import torch

    pages = mmap.mmap(-1, _BLOCK)
    return torch.frombuffer(pages, dtype=torch.uint8), memoryview(pages)


def can_write_direct(size: int) -> bool:
    """Whether it is worth a try for a file of so many bytes: on Linux, for large ones."""
    return size >= LEAST and hasattr(os, "O_DIRECT") and Path("/proc/self/fd").is_dir()
