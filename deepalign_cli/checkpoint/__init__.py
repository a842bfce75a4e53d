"""Checkpoint files: opened lazily and safely, written one tensor at a time and atomically.

Importing this loads no torch; only reading or writing a tensor does.
"""

from __future__ import annotations

from deepalign_cli.checkpoint.checkpoint import Checkpoint, tied_metadata
from deepalign_cli.checkpoint.entry import Entry
from deepalign_cli.checkpoint.info import DTYPES, TensorInfo
from deepalign_cli.checkpoint.open import open_checkpoint
from deepalign_cli.checkpoint.targets import check_output
from deepalign_cli.checkpoint.writer import write_safetensors, write_tensors

__all__ = [
    "DTYPES",
    "Checkpoint",
    "Entry",
    "TensorInfo",
    "check_output",
    "open_checkpoint",
    "tied_metadata",
    "write_safetensors",
    "write_tensors",
]
