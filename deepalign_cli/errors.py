"""One tree of exceptions: what went wrong in a sentence, what to do about it, and the exit code.

The library raises these and never prints; the command line shows `message` and `hint` and exits with
`exit_code`. `code` is the stable word that scripts see in `--json` errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class DeepalignError(Exception):
    """Anything that deepalign reports to its user without a traceback."""

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init_subclass__(cls, *, code: str | None = None, exit_code: int | None = None) -> None:
        cls.code, cls.exit_code = code or cls.code, exit_code or cls.exit_code

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(DeepalignError, code="usage", exit_code=2):
    """The command line or the arguments ask for something that makes no sense."""


class OutputError(DeepalignError, code="output"):
    """The output could not be written (disk full, no permission, missing folder)."""


class ClusterError(DeepalignError, code="cluster"):
    """A cluster does not answer, has lost its workers, or does not see the files."""


class Interrupted(DeepalignError, code="interrupted", exit_code=130):
    """Ctrl-C was pressed; the hint says what is left of the work. The exit code is 128 + SIGINT."""


class MissingExtra(DeepalignError, code="missing"):
    """An optional package is needed and not installed; the hint is the line that installs it."""


class DataError(DeepalignError, code="data", exit_code=3):
    """A data set is broken, empty, or does not fit the network."""


class LossError(DeepalignError, code="loss"):
    """A loss is not finite."""


class CheckpointError(DeepalignError, code="checkpoint", exit_code=3):
    """A checkpoint is broken, hostile, or not a checkpoint at all."""


class UnsafeCheckpointError(CheckpointError, code="unsafe"):
    """A checkpoint asks to run code; none of it was run."""


class NonFiniteError(CheckpointError, code="nonfinite"):
    """A tensor holds NaN or Inf."""


class MismatchError(DeepalignError, code="mismatch", exit_code=3):
    """Two checkpoints, or a checkpoint and an alignment, do not belong together."""


class SpecError(DeepalignError, code="spec", exit_code=3):
    """A symmetry spec is malformed or does not fit the tensors' shapes."""


class UnknownNetwork(SpecError, code="unknown"):
    """The network that a config.json names is not one that the library knows."""


class AmbiguousError(SpecError, code="ambiguous"):
    """Two readings of an architecture fit its names and shapes; deepalign does not guess."""


class BarrierExceeded(DeepalignError, code="barrier", exit_code=4):
    """The loss barrier is above the limit that the user set."""


def listed(texts: Sequence[str], most: int) -> str:
    """Texts in a row as part of a sentence: the first of them, and how many more there are."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


def one_line(error: object) -> str:
    """What an exception says, as part of a sentence: its message on one line, or else its type."""
    return " ".join(str(error).split()).removesuffix(".") or type(error).__name__
