"""Options made from the tables of methods and combiners: the one place that turns a row into an option."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import make_dataclass
from types import MappingProxyType
from typing import Annotated, Any

import typer

from deepalign_cli.aligners import methods
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.cli.grouped import dashed, option
from deepalign_cli.cli.options import ALIGNING
from deepalign_cli.errors import UsageError
from deepalign_cli.parameters import Parameter


def described(rows: Mapping[str, Any], default: str) -> str:
    """What every row is, in one paragraph."""
    return " ".join(f"{n}{', the default' if n == default else ''}: {r.help}." for n, r in rows.items())


def known(rows: Any) -> Callable[[str], str]:
    """What checks that a name is one of the rows'."""
    return lambda name: str(rows.find(name).name)


def _method(help: str) -> Any:
    return typer.Option(
        "--method", "-m", metavar="METHOD", parser=known(METHODS), rich_help_panel=ALIGNING, help=help
    )


METHOD_HELP = described(METHODS, methods.DEFAULT)
Method = Annotated[str | None, _method(METHOD_HELP)]
_SEVERAL = "Repeat it to compare several; none is always included."
Methods = Annotated[list[str] | None, _method(f"{_SEVERAL} {METHOD_HELP}")]


def check_used(
    prefix: str, names: Sequence[str], values: Iterable[str], rows: Mapping[str, Any],
    given: Mapping[str, Any] = MappingProxyType({}),
) -> None:  # fmt: skip
    """Check that every option in `values` has an effect on one of the methods or combiners in `names`.

    `given` are the values of all options.

    Raises:
        UsageError: one has none; the message names it and those that would use it.
    """
    for name in values:
        users = [row for row in rows.values() if _has(row, name)]
        if users and not any(row.name in names and _uses(row, name, given) for row in users):
            who = f"{prefix} " + f" and {prefix} ".join(names)
            hint = f"leave it out, or give {prefix} {' or '.join(_user(row, name) for row in users)}."
            raise UsageError(f"{who} makes no use of {dashed(name)}.", hint)


def _has(row: Any, name: str) -> bool:
    trait = {"seed": "seeded", "base": "base", "weights": "weighed", "weights_for": "weighed"}.get(name, "")
    return getattr(row, trait, False) or any(parameter.name == name for parameter in row.parameters)


def _uses(row: Any, name: str, given: Mapping[str, Any]) -> bool:
    """Whether an option that a row has is of any effect beside those that are given."""
    return name not in getattr(row, "only", {}) or bool(row.uses(name, given))


def _user(row: Any, name: str) -> str:
    """A row that has an option, and what must be given for that to have an effect."""
    beside = getattr(row, "only", {}).get(name)
    return f"{row.name} {dashed(beside[0])} {beside[1]}" if beside else str(row.name)


def parameters_of(rows: Iterable[Any]) -> dict[str, tuple[Parameter, tuple[str, ...]]]:
    """Every parameter of some rows by name, and the names of the rows that have it."""
    users: dict[str, tuple[Parameter, tuple[str, ...]]] = {}
    for row in rows:
        for parameter in row.parameters:
            first, names = users.get(parameter.name, (parameter, ()))
            users[parameter.name] = first, (*names, _user(row, parameter.name))
    return users


def options_of(name: str, rows: Iterable[Any], prefix: str, panel: str, base: type) -> type:
    """A dataclass with an option for every parameter of some rows, None where it is not given."""
    fields = [
        (
            parameter.name,
            (object if parameter.each else parameter.type) | None,
            _option(parameter, panel, f"{prefix} {_enumerated(users)}"),
        )
        for parameter, users in parameters_of(rows).values()
    ]
    return make_dataclass(name, fields, bases=(base,), frozen=True)


def _enumerated(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])


def _option(parameter: Parameter, panel: str, users: str) -> Any:
    how: dict[str, Any] = {}
    if parameter.each:
        how |= {"metavar": "X[,X...]", "parser": parameter.read}
    elif parameter.type is not str:
        bounds = {"min": parameter.least, "max": parameter.most}
        how |= {key: parameter.type(bound) for key, bound in bounds.items() if bound is not None}
    if metavar := parameter.metavar or "|".join(parameter.choices):
        how["metavar"] = metavar
    if parameter.choices:
        how["parser"] = _checked(parameter)
    return option(f"{parameter.help} For {users}.", panel, **how)


def _checked(parameter: Parameter) -> Callable[[str], str]:
    def check(text: str) -> str:
        parameter.check(text)
        return text

    return check
