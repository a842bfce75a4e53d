"""The saved state of a training: what going on needs, in one file that appears whole or not at all."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.errors import CheckpointError, one_line

_APART = 2654435761  # between two workers' random streams: 2**32 over the golden ratio, which is far
_BROKEN = (pickle.UnpicklingError, LookupError, TypeError, ValueError, RuntimeError, EOFError, OSError)


def generator_of(rank: int, step: int) -> torch.Generator:
    """The random numbers of one step of one worker; a CPU's generator reads 32 bits of its seed."""
    return torch.Generator().manual_seed((rank * _APART + step) % 2**32)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state.

    Raises:
        OutputError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_bytes(path, buffer.getvalue(), force=True)


@contextmanager
def opened_state(path: Path) -> Iterator[dict[str, Any]]:
    """A state, to be taken over in the block; tensors lie in memory of the CPU.

    Raises:
        CheckpointError: it is broken, or the block finds that something is missing in it.
    """
    try:
        yield torch.load(io.BytesIO(path.read_bytes()), weights_only=True, map_location="cpu")
    except _BROKEN as error:
        message = f"'{path}' is not a complete state of a run: {one_line(error)[:200]}."
        raise CheckpointError(message, "start again without --resume.") from None
