"""Options made from the tables of methods and combiners: the one place that turns a row into an option."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import make_dataclass
from typing import Annotated, Any

import typer

from deepalign_cli.aligners import methods
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.combiners.table import COMBINERS, DEFAULT
from deepalign_cli.parameters import Parameter

HOW_TO_ALIGN, HOW_TO_MERGE = "How to align", "How to merge"


def _described(rows: Mapping[str, Any], default: str) -> str:
    """What every row is, in one paragraph."""
    return " ".join(f"{n}{', the default' if n == default else ''}: {r.help}." for n, r in rows.items())


def _known(name: str) -> str:
    return METHODS.find(name).name


def _known_combiner(name: str) -> str:
    return COMBINERS.find(name).name


METHOD_HELP = _described(METHODS, methods.DEFAULT)
Method = Annotated[
    str | None,
    typer.Option(
        "--method", "-m", metavar="METHOD", parser=_known, rich_help_panel=HOW_TO_ALIGN, help=METHOD_HELP
    ),
]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method", "-m", metavar="METHOD", parser=_known, rich_help_panel=HOW_TO_ALIGN,
        help=f"Repeat it to compare several; none is always included. {METHOD_HELP}",
    ),
]  # fmt: skip
Combine = Annotated[
    str | None,
    typer.Option(
        "--combine", metavar="COMBINER", parser=_known_combiner, rich_help_panel=HOW_TO_MERGE,
        help=_described(COMBINERS, DEFAULT),
    ),
]  # fmt: skip


def parameters_of(rows: Iterable[Any]) -> dict[str, tuple[Parameter, tuple[str, ...]]]:
    """Every parameter of some rows by name, and the names of the rows that have it."""
    users: dict[str, tuple[Parameter, tuple[str, ...]]] = {}
    for row in rows:
        for parameter in row.parameters:
            known, names = users.get(parameter.name, (parameter, ()))
            users[parameter.name] = known, (*names, row.name)
    return users


def options_of(name: str, rows: Iterable[Any], flag: str, panel: str, base: type | None = None) -> type:
    """A dataclass with an option for every parameter of some rows, None where it is not given."""
    fields = [
        (parameter.name, Annotated[parameter.type | None, _option(parameter, flag, users, panel)], None)
        for parameter, users in parameters_of(rows).values()
    ]
    return make_dataclass(name, fields, bases=(base,) if base else (), frozen=True)


def _option(parameter: Parameter, flag: str, users: tuple[str, ...], panel: str) -> Any:
    bounds: dict[str, Any] = (
        {"min": parameter.least, "max": parameter.most} if parameter.type is not str else {}
    )
    if parameter.type is int:
        bounds = {key: None if value is None else int(value) for key, value in bounds.items()}
    return typer.Option(
        parameter.option, rich_help_panel=panel,
        metavar=parameter.metavar or "|".join(parameter.choices) or ("N" if parameter.type is int else "X"),
        help=f"{parameter.help} For {' and '.join(f'{flag} {user}' for user in users)}.",
        parser=_checked(parameter) if parameter.choices else None, **bounds,
    )  # fmt: skip


def _checked(parameter: Parameter) -> Callable[[str], str]:
    def check(text: str) -> str:
        parameter.check(text)
        return text

    return check
