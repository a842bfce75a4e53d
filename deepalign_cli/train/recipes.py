"""Reading recipes: TOML tables into dataclasses, with every unknown or unusable entry named."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from deepalign_cli.errors import UsageError

FORMAT = 1
_HINT = "docs/training.md describes recipes; pretrained/ holds those of the shipped networks."
Made = TypeVar("Made")


def read_recipe(path: Path) -> dict[str, Any]:
    """The tables of a recipe.

    Raises:
        UsageError: there is no such file, it is not TOML, or its format is another.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no recipe '{path}'.", _HINT) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"the recipe '{path}' cannot be read: {error}.", _HINT) from None
    if table.pop("format", FORMAT) != FORMAT:
        raise UsageError(f"the recipe '{path}' has another format than {FORMAT}.", _HINT)
    return table


def make(cls: type[Made], table: Mapping[str, Any], where: str) -> Made:
    """`cls` from a table; lists become tuples.

    Raises:
        UsageError: an entry is unknown, missing or not usable; `where` says in which table.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"[{where}] of the recipe is no table.", _HINT)
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"[{where}] of the recipe: {error}.", _HINT) from None
