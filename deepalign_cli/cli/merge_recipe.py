"""Recipes of merges: the options of `deepalign merge` as a TOML file, and back again.

A recipe's keys are the names of the options, with `_` for `-`, and `inputs`. It is read as words of the
command line, so that every check, bound and message is the command line's own; what is typed there counts
more. The outputs of `merge` hold their recipe in the metadata.

    inputs = ["b.pt", "c.pt"]
    base = "a.pt"
    combine = "ties"
    density = [0.4, 0.2]
    weights_for = {embed = "1/0", mlp = [[1, 0.5], [0, 0.5]]}
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.checkpoint.hub import is_reference, shown_source
from deepalign_cli.cli.grouped import dashed
from deepalign_cli.cli.sharing import without_folder
from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.errors import CheckpointError, UsageError
from deepalign_cli.network.pretrained import network_name
from deepalign_cli.spelling import british

if TYPE_CHECKING:
    from deepalign_cli.operations.job import Job

FORMAT = 1
KEY = "recipe"  # of the metadata, after `deepalign.`
_LIMIT = 1_000_000
_HINT = "docs/cli.md describes recipes: the options of merge, with _ for -, and inputs."
# What says how a result is shown or shared, not what it is; and a name that is old.
_NO_KEYS = frozenset((
    "dry_run", "engine", "force", "help", "json", "offline", "path", "private", "push", "quiet", "recipe",
    "save_recipe", "yes",
))  # fmt: skip
_EXCLUDE = (("alpha", "weights"),)  # each takes the place of the other
_TABLES = ("weights_for", "model_arg", "design")  # their values are KEY=VALUE
_FILES = ("save_alignment", "save_dreams")  # which are no part of what was made
_CODE = ("model", "model_arg", "loss")  # these may run code


def keys_of(params: Iterable[Any]) -> dict[str, Any]:
    """The parameters of the command by the keys that they have in a recipe."""
    named = {(p.opts[0] if p.opts[0].startswith("-") else p.name): p for p in params}
    keys = {name.lstrip("-").replace("-", "_"): param for name, param in named.items()}
    return {key: param for key, param in keys.items() if key not in _NO_KEYS}


def recipe_words(params: Iterable[Any], typed: Mapping[str, Any]) -> list[str]:
    """The words that the recipe of `--recipe` stands for, without what is `typed` beside it.

    Raises:
        UsageError: there is no such recipe, or it has a key that is no option of `merge`.
        CheckpointError: it is in a checkpoint that holds none.
    """
    path, keys = Path(typed[KEY]), keys_of(params)
    table, is_own = _read(path)
    given = {key for key, param in keys.items() if typed.get(param.name)}
    for key in table:
        if key not in keys:
            raise UsageError(
                f"the recipe '{shown_source(path)}' has no use for '{key}'.", _nearest(key, keys)
            )
    if not is_own:
        _check_code(path, table, given)
    words: list[str] = []
    for key, value in table.items():
        if key not in _overridden(given, typed):
            words += _words(keys[key], key, value, path)
    return words


def recipe_of(inputs: Sequence[Path], groups: Sequence[object], *, bare: bool, **single: object) -> str:
    """The recipe of the options that were given.

    `bare` leaves out the folders of files, and what the inputs are: that is told when they are opened.
    """
    values: dict[str, object] = {"inputs": list(inputs), **single}
    for group in groups:
        more = {dashed(name)[2:].replace("-", "_"): value for name, value in vars(group).items()}
        values |= {key: value for key, value in more.items() if key not in single}
    left_out = (*_NO_KEYS, *(("inputs", "base", *_FILES) if bare else ()))
    lines = [] if bare else [f"format = {FORMAT}"]
    for key, value in values.items():
        if key not in left_out and value not in (None, False):
            lines.append(f"{key} = {json.dumps(_plain(key, value, bare))}")
    return "\n".join(lines) + "\n"


def check_saving(path: Path | None, job: Job, *, dry_run: bool) -> None:
    """Refuse, before any work, a recipe that could not be written in the end.

    Raises:
        UsageError: it is one of the inputs, or the output, or exists; or nothing is to be written.
    """
    if path is None:
        return
    from deepalign_cli.checkpoint import check_output

    if dry_run:
        raise UsageError("--dry-run writes nothing, so --save-recipe has no effect.", "leave one out.")
    if path.suffix != ".toml":
        problem = f"'{path}' would be a recipe, which its name does not say."
        raise UsageError(problem, f"write --save-recipe {path.with_suffix('.toml')}")
    check_output(path, force=job.settings.force, inputs=job.untouchable)


def save_recipe(path: Path | None, text: str, *, force: bool) -> None:
    """Write a recipe to its file, if there is one, whole or not at all.

    Raises OutputError, UsageError where it cannot be written.
    """
    if path is not None:
        from deepalign_cli.checkpoint.atomic import write_bytes

        write_bytes(path, text.encode("utf-8", "surrogateescape"), force=force)


def schema_of(params: Iterable[Any]) -> dict[str, object]:
    """The JSON schema of recipes."""
    properties: dict[str, object] = {"format": {"const": FORMAT}}
    properties |= {key: _schema(key, param) for key, param in keys_of(params).items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A recipe for deepalign merge --recipe",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _read(path: Path) -> tuple[dict[str, Any], bool]:
    """The table of a recipe, by British names; and whether it is a file of its own, not one's metadata."""
    is_own = not (is_reference(path) or path.is_dir() or path.suffix == ".safetensors")
    try:
        table = tomllib.loads(_text(path) if is_own else _stored(path))
    except FileNotFoundError:
        raise UsageError(f"there is no recipe '{path}'.", _HINT) from None
    except (OSError, ValueError, RecursionError) as error:
        what = getattr(error, "strerror", None) or error
        raise UsageError(f"the recipe '{shown_source(path)}' cannot be read: {what}.", _HINT) from None
    if table.pop("format", FORMAT) != FORMAT:
        raise UsageError(f"the format of the recipe '{shown_source(path)}' is not {FORMAT}.", _HINT)
    return {british(key): value for key, value in table.items()}, is_own


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise ValueError(f"it is longer than {_LIMIT:,} bytes")
    return data.decode("utf-8")


def _stored(path: Path) -> str:
    from deepalign_cli.checkpoint import open_checkpoint

    text = open_checkpoint(path).metadata.get(f"deepalign.{KEY}")
    if text is None:
        raise CheckpointError(f"'{shown_source(path)}' holds no recipe.", "outputs of `merge` do.")
    return text


def _nearest(key: str, keys: Iterable[str]) -> str:
    close = difflib.get_close_matches(key.replace("-", "_"), [*keys], 1, 0.6)
    return f"did you mean '{close[0]}'?" if close else _HINT


def _check_code(path: Path, table: Mapping[str, Any], given: set[str]) -> None:
    """Refuse code that a checkpoint names: a stranger's file decides of nothing that is run."""
    for key, value in table.items():
        names_code = key in _CODE or (isinstance(value, str) and ".py:" in value)
        if names_code and key not in given:
            problem = f"the recipe in '{shown_source(path)}' names {key} '{value}', which may run code."
            hint = (
                f"say it yourself: {dashed(key)} ...; or give the recipe as a .toml file that you have read."
            )
            raise UsageError(problem, hint)


def _overridden(given: set[str], typed: Mapping[str, Any]) -> set[str]:
    """The keys that count no more: typed, excluded by what is typed, or of another combiner or method."""
    over = set(given)
    for pair in _EXCLUDE:
        over |= set(pair) if given & set(pair) else set()
    for key, rows in (("combine", COMBINERS), ("method", METHODS)):
        row = rows.get(str(typed.get(key)))
        if row is not None:
            everyone = {p.name.rstrip("_") for one in rows.values() for p in one.parameters}
            over |= everyone - {p.name.rstrip("_") for p in row.parameters}
            over |= set() if getattr(row, "base", True) else {"base"}
            over |= set() if getattr(row, "weighed", True) else {"alpha", "weights", "weights_for"}
    return over


def _words(param: Any, key: str, value: object, path: Path) -> Iterator[str]:
    """A value as it is typed."""
    option = param.opts[0]
    is_list = isinstance(value, list)
    if getattr(param, "is_flag", False):
        if not isinstance(value, bool):
            raise _unusable(path, key, value)
        yield from [option] if value else []
    elif key == "inputs":
        for one in value if isinstance(value, list) else [value]:
            text = _typed(one, path, key)
            yield f"./{text}" if text.startswith("-") else text
    elif isinstance(value, dict) and key in _TABLES:
        for name, one in value.items():
            yield f"{option}={name}={_typed(one, path, key)}"
    elif is_list and param.multiple:
        for one in value if isinstance(value, list) else []:
            yield f"{option}={_typed(one, path, key)}"
    else:
        yield f"{option}={_typed(value, path, key)}"


def _typed(value: object, path: Path, key: str, between: str = "/") -> str:
    if isinstance(value, list):
        if between == "/" and not any(isinstance(one, list) for one in value):
            between = ","
        return between.join(_typed(one, path, key, ",") for one in value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _unusable(path, key, value)
    return str(value)


def _unusable(path: Path, key: str, value: object) -> UsageError:
    return UsageError(f"{key} of the recipe '{shown_source(path)}' cannot be {value!r}.", _HINT)


def _plain(key: str, value: object, bare: bool) -> object:
    """A value in TOML's types."""
    if isinstance(value, list | tuple):
        return [_plain(key, one, bare) for one in value]
    if isinstance(value, frozenset):
        return ",".join(sorted(map(str, value)))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return shown_source(value) if is_reference(value) or not bare else value.name
    if not isinstance(value, str):
        return value
    if key == "weights" and re.fullmatch(r"[-+.\deE,]+", value):
        return [float(part) for part in value.split(",")]
    if not bare:
        return value
    if key == "output":
        return f"{Path(value).name}{'/' * value.endswith('/')}"
    return network_name(value) if key == "network" else without_folder(value)


def _schema(key: str, param: Any) -> dict[str, object]:
    """What a key's value may be."""
    kind = param.type_descriptor.annotation
    numbers = {"type": "array", "items": {"type": "number"}}
    said: dict[str, object] = {"description": param.help}
    if key == "inputs":
        return {**said, "type": "array", "items": {"type": "string"}}
    if key in _TABLES:
        return {**said, "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "object"}]}
    if param.multiple:
        return {**said, "type": "array", "items": {"type": "string"}}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {**said, "enum": [one.value for one in kind]}
    if key == "weights" or kind is object:
        return {**said, "anyOf": [{"type": "number"}, numbers, {"type": "string"}]}
    names = {bool: "boolean", int: "integer", float: "number"}
    said["type"] = names.get(kind, "string")
    bounds = {"minimum": getattr(param, "min", None), "maximum": getattr(param, "max", None)}
    return said | {name: bound for name, bound in bounds.items() if bound is not None}
