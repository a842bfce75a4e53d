"""Options of methods and combiners, said once: the command line, checks and documents are made from them."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deepalign_cli.errors import UsageError


@dataclass(frozen=True)
class Parameter:
    """A keyword of a method or combiner, `--name` on the command line.

    `type` is int, float or str, `least` and `most` its bounds (included), `choices` the words it may be; of
    these, `need_data` do not work without data, and with `no_data` data are of no use.
    """

    name: str
    type: type[int] | type[float] | type[str]
    default: Any
    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    metavar: str = ""
    need_data: frozenset[str] = frozenset()
    no_data: frozenset[str] = frozenset()

    @property
    def option(self) -> str:
        """As it is typed."""
        return f"--{self.name.rstrip('_').replace('_', '-')}"

    def check(self, value: Any) -> None:
        """See that a value may be used.

        Raises:
            UsageError: it is out of bounds, or not one of the choices.
        """
        if self.choices and value not in self.choices:
            raise UsageError(f"{self.option} is {value!r}.", f"it is one of {', '.join(self.choices)}.")
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        bounds += [f"at most {self.most:g}"] if self.most is not None else []
        low = self.least is not None and not value >= self.least
        high = self.most is not None and not value <= self.most
        if low or high:
            raise UsageError(f"{self.option} is {value:g}.", f"it must be {' and '.join(bounds)}.")


def values_of(parameters: Iterable[Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each parameter: what was given, else its default.

    Raises:
        UsageError: a value may not be used.
    """
    values = {}
    for parameter in parameters:
        value = given.get(parameter.name)
        if value is not None:
            parameter.check(value)
        values[parameter.name] = parameter.default if value is None else value
    return values


def load(reference: str) -> Any:
    """What `module:name` names; the module is imported now and not before."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
