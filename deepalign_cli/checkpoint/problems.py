"""What the parsers raise: a complaint about bytes, which does not know yet which file they came from.

`blame` turns it into the error that the user sees, with the file's name in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deepalign_cli.errors import CheckpointError, UnsafeCheckpointError

DAMAGED = "the file is damaged or incomplete; download or save it again"
CONVERT = (
    "nothing of it was run; load it in an environment you can lose, and save its state dict as safetensors"
)


class Malformed(Exception):
    """The bytes do not follow their format."""

    def __init__(self, message: str, hint: str = DAMAGED) -> None:
        super().__init__(message)
        self.hint = hint


class Forbidden(Malformed):
    """The bytes ask for code to be run."""

    def __init__(self, message: str, hint: str = CONVERT) -> None:
        super().__init__(message, hint)


@contextmanager
def blame(file: Path) -> Iterator[None]:
    """Turn a `Malformed` from inside into a `CheckpointError` that names `file`.

    Raises CheckpointError; UnsafeCheckpointError where the file asks for code to be run.
    """
    try:
        yield
    except Forbidden as problem:
        raise UnsafeCheckpointError(f"{file}: {problem}", problem.hint) from None
    except Malformed as problem:
        raise CheckpointError(f"{file}: {problem}", problem.hint) from None


def shown(value: object, limit: int = 80) -> str:
    """A value from an untrusted file, short and printable; safe for values of any size."""
    if isinstance(value, str):
        text = ascii(value[: limit + 1])
    elif isinstance(value, int) and value.bit_length() <= 128:
        text = str(value)
    else:
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."
