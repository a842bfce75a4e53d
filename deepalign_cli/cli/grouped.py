"""Options as the fields of a dataclass, each declared once, for any number of commands.

A command names the dataclass as the type of a parameter; on the command line its fields stand there by
themselves, in their place among the command's own.

Example:
    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Drawing:
    ...     width: int | None = option("The width in inches.", min=1)  # --width N
    ...     grey: bool = flag("Draw without colours.")  # --grey
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, field, fields, is_dataclass
from functools import partial, wraps
from typing import Annotated, Any, get_args, get_type_hints

import typer

_METAVARS = {int: "N", float: "X"}


def option(help: str, panel: str | None = None, default: Any = None, short: str = "", **how: Any) -> Any:
    """A field that is an option, named for the field; `how` is what `typer.Option` takes besides."""
    how |= {"help": help, "rich_help_panel": panel}
    return field(default=default, metadata={"short": short, "how": how})


def dashed(name: str) -> str:
    """The option of a field, as it is typed."""
    return f"--{name.rstrip('_').replace('_', '-')}"


flag = partial(option, default=False)
required = partial(option, default=MISSING)


def grouped(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The command with the options of its groups in its signature; it is called with the groups made."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind) and isinstance(kind, type)}
    parameters = [p for one in inspect.signature(command).parameters.values() for p in _flat(one, hints)]
    names = [p.name for p in parameters]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise TypeError(f"{command.__name__} has the options {sorted(twice)} twice")

    @wraps(command)
    def called(**values: Any) -> int | None:
        instances = {
            name: kind(**{f.name: values.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()
        }
        return command(**values, **instances)

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


def _flat(parameter: inspect.Parameter, hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    kind, keyword_only = hints[parameter.name], inspect.Parameter.KEYWORD_ONLY
    if not (is_dataclass(kind) and isinstance(kind, type)):
        yield parameter.replace(annotation=kind, kind=keyword_only)
        return
    types = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        default = inspect.Parameter.empty if one.default is MISSING else one.default
        annotation = types[one.name]
        if "how" in one.metadata:
            annotation = _declared(one.name, annotation, **one.metadata)
        yield inspect.Parameter(one.name, keyword_only, default=default, annotation=annotation)


def _declared(name: str, kind: Any, short: str, how: dict[str, Any]) -> Any:
    """The annotation that Typer reads an option from."""
    value = next((one for one in get_args(kind) if one in _METAVARS), kind)
    names = [dashed(name), *filter(None, [short])]
    return Annotated[kind, typer.Option(*names, **{"metavar": _METAVARS.get(value), **how})]
