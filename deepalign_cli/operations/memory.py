"""Giving large blocks back to the system as soon as they are free."""

from __future__ import annotations

import ctypes
import sys

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
_LARGE = 4 * 2**20


def return_large_blocks() -> None:
    """Ask glibc to map every block of 4 MiB or more on its own, and so to unmap it when it is freed.

    By itself glibc raises that limit to 32 MiB as a program goes on, and then keeps a heap full of holes:
    aligning 1 GB checkpoints held over 1 GB of freed memory. Elsewhere than on glibc nothing is done.
    """
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)
    except (AttributeError, OSError):  # another C library
        return
