"""Options that several commands take, said once as the fields of a dataclass.

A command names the dataclass as the type of a parameter; on the command line its fields stand there by
themselves, in their place among the command's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The command with the options of its groups in its signature; it is called with the groups made."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind) and isinstance(kind, type)}
    parameters = [p for own in inspect.signature(command).parameters.values() for p in _flat(own, hints)]
    names = [p.name for p in parameters]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise TypeError(f"{command.__name__} has the options {sorted(twice)} twice")

    @wraps(command)
    def called(**given: Any) -> int | None:
        made = {
            name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()
        }
        return command(**given, **made)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


def _flat(own: inspect.Parameter, hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    kind = hints[own.name]
    if not (is_dataclass(kind) and isinstance(kind, type)):
        yield own.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY)
        return
    types = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name]
        )
