"""Text as numbers: a file of one's own, or what Python's standard library is written in."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from deepalign_cli.errors import UsageError

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))  # 96 characters; others are left out
PYTHON = "python"
_BLOCK = 10_000  # characters
_EVERY = 10  # one block in ten is for testing


def text_of(name: str, folder: Path) -> str:
    """The text NAME.txt of a folder; without one, "python" is the source of Python's own modules.

    Raises:
        UsageError: there is no such text, or it is not UTF-8.
    """
    path = folder / f"{name}.txt"
    if name == PYTHON and not path.exists():
        return _python()
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = f'--data names a folder with {name}.txt; data = "{PYTHON}" needs no file.'
        raise UsageError(f"there is no text '{path}'.", hint) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"'{path}' cannot be read as text: {error}.", "save it as UTF-8.") from None


def _python() -> str:
    """The modules at the top of the standard library, in the order of their names."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return "".join(file.read_text(encoding="utf-8", errors="ignore") for file in files)


def characters_of(text: str) -> Int64[Tensor, " n"]:
    r"""The characters' numbers in ALPHABET, without those that it lacks.

    >>> characters_of("A\tb\n").tolist()
    [34, 67, 0]
    """
    codes = torch.from_numpy(np.frombuffer(text.encode("ascii", "ignore"), np.uint8).astype(np.int64))
    numbers = torch.full((128,), -1)
    numbers[torch.tensor(list(ALPHABET.encode("ascii")))] = torch.arange(len(ALPHABET))
    known = numbers[codes]
    return known[known >= 0]


def in_rows(
    characters: Int64[Tensor, " n"], length: int
) -> tuple[Int64[Tensor, "train t"], Int64[Tensor, "test t"]]:
    """Rows of so many neighbouring characters, for training and for testing, which share no block."""
    blocks = torch.split(characters, _BLOCK)
    parts = (
        [block for i, block in enumerate(blocks) if (i % _EVERY == _EVERY - 1) is tested]
        for tested in (False, True)
    )
    train, test = (_rows(torch.cat(part) if part else characters[:0], length) for part in parts)
    return train, test


def _rows(characters: Int64[Tensor, " n"], length: int) -> Int64[Tensor, "rows t"]:
    return characters[: len(characters) // length * length].reshape(-1, length)
