"""The files that `barrier` and `landscape` write: refused before any work where they could not be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepalign_cli.cli.aligning import AligningOptions
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.errors import UsageError


def read_files(
    inputs: Sequence[Path],
    running: RunningOptions,
    aligning: AligningOptions,
    alignments: Sequence[Path] | None,
) -> list[Path]:
    """What a command reads: no picture and no table takes its place."""
    return [*inputs, *running.files(), *(alignments or ()), *filter(None, [aligning.spec])]


def check_drawing(picture: Path | None, csv: Path | None, reads: Sequence[Path], *, force: bool) -> None:
    """Check a picture and a table of its points; `reads` are files that are read.

    Raises:
        UsageError: one exists and is not to be overwritten, is read, is no kind of picture; both are one.
        OutputError: one could not be written. MissingExtra: what draws the picture is not installed.
    """
    from deepalign_cli.checkpoint import check_output
    from deepalign_cli.checkpoint.targets import real_target
    from deepalign_cli.plots import check_plot

    if picture is not None:
        check_plot(picture, force=force, inputs=reads)
    if csv is None:
        return
    check_output(csv, force=force, inputs=reads)
    if picture is not None and real_target(picture) == real_target(csv):
        raise UsageError(f"'{csv}' would hold both picture and rows.", "give --csv a file of its own.")
