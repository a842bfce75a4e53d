"""Reading recipes: TOML tables into dataclasses, with every unknown or unusable entry named."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from deepalign_cli.errors import UsageError
from deepalign_cli.spelling import british

FORMAT = 1
_HINT = "docs/training.md describes recipes; pretrained/ holds those of the shipped networks."
_TABLES = ("network", "autoencoder", "train", "refiner", "search")  # of a recipe for `deepalign train`
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
        raise UsageError(f"the format of the recipe '{path}' is not {FORMAT}.", _HINT)
    return table


def check_tables(recipe: Mapping[str, Any]) -> None:
    """Check that a recipe for training holds known tables only.

    Raises:
        UsageError: it holds something else.
    """
    unknown = set(recipe) - set(_TABLES)
    if unknown:
        known = ", ".join(f"[{name}]" for name in _TABLES)
        raise UsageError(f"the recipe has an unknown table '{min(unknown)}'.", f"it may hold {known}.")
    for name, table in recipe.items():
        if not isinstance(table, dict):
            raise UsageError(f"'{name}' of the recipe is not a table.", f"write [{name}] above its entries.")


def make(cls: type[Made], table: Any, where: str) -> Made:
    """`cls`, a dataclass, from a table; lists become tuples.

    Raises:
        UsageError: an entry is unknown, missing or not usable; `where` says in which table.
    """
    if not isinstance(table, Mapping):
        raise UsageError(f"[{where}] of the recipe is not a table.", _HINT)
    options = {british(key): tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    problem = _problem(cls, options)
    if problem is None:
        try:
            return cls(**options)
        except (TypeError, ValueError) as error:
            problem = str(error)
    raise UsageError(f"[{where}] of the recipe: {problem}.", _HINT)


def check_encoder(table: Mapping[str, Any], where: str, known: Mapping[str, Any], usual: str) -> None:
    """Check a table that names an encoder, or means the usual one; the rest is its configuration.

    The rows of `known` begin with the dataclass that an encoder is configured by.

    Raises:
        UsageError: there is no such encoder, or an entry is unknown, missing or not usable.
    """
    name = table.get("encoder", usual)
    if not isinstance(name, str) or name not in known:
        problem = f"[{where}] of the recipe: there is no encoder {name!r}."
        raise UsageError(problem, f"encoder is one of {', '.join(known)}.")
    make(known[name][0], {key: value for key, value in table.items() if key != "encoder"}, where)


def _problem(cls: Any, options: Mapping[str, Any]) -> str | None:
    """What is unknown, of another type or missing, in words."""
    kinds = get_type_hints(cls)
    for key, value in options.items():
        if key not in kinds:
            return f"'{key}' is not an entry of it"
        if not _is_a(value, kinds[key]):
            return f"{key} must be {_words(kinds[key])}, not {value!r}"
    needed = (f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING)
    missing = next((name for name in needed if name not in options), None)
    return missing and f"'{missing}' is missing"


def _is_a(value: Any, kind: Any) -> bool:
    """As TOML has it: true is not a number, and an integer fits wherever a number does."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin is tuple:
        fits = isinstance(value, tuple) and (parts[-1] is Ellipsis or len(value) == len(parts))
        return fits and all(_is_a(part, parts[0]) for part in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_a(part, parts[1]) for part in value.values())
    if origin is float:
        return type(value) in (int, float)
    return type(value) is int if origin is int else isinstance(value, origin)


def _words(kind: Any) -> str:
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin is tuple:
        return "a list of numbers" if parts[-1] is Ellipsis else f"a list of {len(parts)} numbers"
    return _WORDS[origin]


_WORDS = {
    int: "an integer", float: "a number", bool: "true or false", str: "a string",
    Mapping: "a table of numbers",
}  # fmt: skip
