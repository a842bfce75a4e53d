"""One tree of exceptions: what went wrong in a sentence, what to do about it, and the exit code.

The library raises these and never prints; the command line shows `message` and `hint` and exits with
`exit_code`. `code` is the stable word that scripts see in `--json` errors.
"""

from __future__ import annotations

from typing import ClassVar


class DeepalignError(Exception):
    """Anything that deepalign reports to its user without a traceback."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DeepalignError):
    """The command line or the arguments ask for something that cannot be meant."""

    code = "usage"
    exit_code = 2


class OutputError(DeepalignError):
    """The output could not be written (disk full, no permission, a folder that is missing)."""

    code = "output"


class MissingExtra(DeepalignError):
    """An optional package is needed and not installed; the hint is the line that installs it."""

    code = "missing"


class DataError(DeepalignError):
    """A data set is broken, empty, or does not fit the network."""

    code = "data"
    exit_code = 3


class LossError(DeepalignError):
    """A loss is not finite."""

    code = "loss"


class CheckpointError(DeepalignError):
    """A checkpoint is broken, hostile, or not one at all."""

    code = "checkpoint"
    exit_code = 3


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint asks for code to be run; nothing of it was."""

    code = "unsafe"


class NonFiniteError(CheckpointError):
    """A tensor holds NaN or Inf."""

    code = "nonfinite"


class MismatchError(DeepalignError):
    """Two checkpoints, or a checkpoint and an alignment, do not belong together."""

    code = "mismatch"
    exit_code = 3


class SpecError(DeepalignError):
    """A symmetry spec is malformed or does not fit the tensors' shapes."""

    code = "spec"
    exit_code = 3


class AmbiguousError(SpecError):
    """Two readings of an architecture fit its names and shapes; neither is guessed."""

    code = "ambiguous"


class BarrierExceeded(DeepalignError):
    """The loss barrier is above the limit that the user set."""

    code = "barrier"
    exit_code = 4
