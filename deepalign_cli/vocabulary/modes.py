"""Whose tokens a merged network has. Importing this loads no torch."""

from __future__ import annotations

from enum import StrEnum


class Tokens(StrEnum):
    """What `--tokenizer` takes."""

    FIRST = "A"  # those of the first input, or of the base
    UNION = "union"  # those of all inputs
