"""Freed blocks go back to the system while aligning."""

from __future__ import annotations

import subprocess
import sys

import pytest

_HELD = """
import ctypes, torch
from deepalign_cli.malloc import return_large_blocks
return_large_blocks()
def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024
before = held()
kept, blocks = [], []
for _ in range(8):
    blocks.append(torch.ones(16 * 2**18))  # 16 MiB
    kept.append(torch.ones(1000))  # holds the end of the heap
del blocks
print(held() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets glibc")
def test_freed_tensors_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _HELD], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16 * 2**20
