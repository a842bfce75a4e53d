"""Writing through the page cache, and bringing what was written to the disk while more is being computed."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_SYNC_EVERY = 64 * 2**20  # bytes


class EarlySync:
    """Writes to a descriptor; a thread syncs it now and then, so that little is left for the sync at the end.

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
            from deepalign_cli.threads import join  # which loads torch

            join([self._thread])
        if self._error and kind is None:
            raise self._error[0]

    def write(self, data: Tensor, at: int) -> None:
        """Write bytes [uint8] to their place in the file."""
        pwrite_all(self._file, data.numpy().data, at)
        with self._wake:
            self._dirty += data.nbytes
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


def pwrite_all(file: int, data: bytes | memoryview, at: int) -> None:
    """Write to a place of a descriptor until nothing is left."""
    view, done = memoryview(data), 0
    while done < len(view):  # a system call takes at most 2 GB
        done += os.pwrite(file, view[done : done + 2**26], at + done)
