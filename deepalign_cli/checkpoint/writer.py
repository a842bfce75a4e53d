"""Writing safetensors files, one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.entry import Entry, code_of
from deepalign_cli.checkpoint.placed import placed_file

if TYPE_CHECKING:
    from torch import Tensor


def write_safetensors(
    path: str | Path,
    entries: Sequence[Entry],
    read: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    *,
    force: bool = False,
    inputs: Sequence[Path] = (),
    finish: Callable[[], Mapping[str, str]] | None = None,
) -> None:
    """Write `read(entry.name)` for each entry, in order; the file appears complete or not at all.

    `finish` is called after the last tensor; the metadata it returns takes the place of `metadata`, and must
    be just as long (sha256 values that were computed meanwhile, in place of 64 zeros).

    Raises UsageError where the output is an input, or exists and `force` is not given; OutputError where it
    cannot be written; ValueError where a tensor is not as its entry says. Nothing is left behind then.
    """
    with placed_file(Path(path), entries, metadata, force=force, inputs=inputs) as file:
        for entry in entries:
            file.write(entry.name, read(entry.name))
        if finish is not None:
            file.set_metadata(finish())


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, force: bool = False
) -> None:
    """Write tensors that are in memory, as `write_safetensors` does.

    Raises UsageError, OutputError: as there.
    """
    entries = [Entry(name, code_of(w), tuple(w.shape)) for name, w in tensors.items()]
    write_safetensors(path, entries, tensors.__getitem__, metadata, force=force)
