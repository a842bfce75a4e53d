"""How the C library keeps freed blocks: what suits aligning, and what suits streaming."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_MIB = 2**20


def set_blocks(*, streams: bool) -> None:
    """Set what suits streaming alone, or aligning."""
    reuse_large_blocks() if streams else return_large_blocks()


def return_large_blocks() -> None:
    """Map every block of 4 MiB or more on its own, so that it is unmapped when it is freed.

    By itself glibc raises that limit to 32 MiB as a program goes on, and then keeps a heap full of holes:
    aligning 1 GB checkpoints held over 1 GB of freed memory.
    """
    _set(_MMAP_THRESHOLD, 4 * _MIB)
    _set(_TRIM_THRESHOLD, 64 * _MIB)  # else what is freed at the end of the heap goes back every time


def reuse_large_blocks() -> None:
    """Keep freed blocks of up to 32 MiB for the next tensor, whose pages are then there already."""
    _set(_MMAP_THRESHOLD, 32 * _MIB)
    _set(_TRIM_THRESHOLD, 128 * _MIB)


def _set(parameter: int, value: int) -> None:
    """Call glibc's mallopt; elsewhere nothing is done."""
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).mallopt(parameter, value)
    except (AttributeError, OSError):  # another C library
        return
