"""Options of methods and combiners, said once: the command line, checks and documents are made from them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deepalign_cli.errors import UsageError


@dataclass(frozen=True)
class Parameter:
    """A keyword of a method or combiner, `--name` on the command line.

    `type` is int, float or str, `least` and `most` its bounds (included), `above` a bound that is not;
    `choices` are the words it may be; of these, `need_data` do not work without data, and with `no_data` data
    are of no use. A number of `each` input may be one for all or a list of one for each.
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
    above: float | None = None
    each: bool = False

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
        for one in value if self.each and isinstance(value, list | tuple) else [value]:
            self._check_bounds(one)

    def read(self, text: str) -> float | tuple[float, ...]:
        """A number, or one for each input, as it is typed: 0.5 or 0.5,0.3.

        Raises:
            UsageError: it is neither, or may not be used.
        """
        try:
            numbers = tuple(float(part) for part in text.split(","))
        except ValueError:
            problem = f"{self.option} is '{text}'."
            raise UsageError(problem, f"write {self.option} 0.5, or {self.option} 0.5,0.3") from None
        self.check(numbers)
        return numbers if len(numbers) > 1 else numbers[0]

    def spread(self, value: Any, count: int) -> tuple[float, ...]:
        """A value for each of `count` inputs, of one for all or of one for each.

        Raises:
            UsageError: there are more or fewer.
        """
        values = tuple(value) if isinstance(value, list | tuple) else (value,) * count
        if len(values) != count:
            problem = f"{len(values)} values of {self.option} are given for {count} inputs."
            raise UsageError(problem, "give one value for all, or one for each.")
        return values

    def _check_bounds(self, value: Any) -> None:
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        bounds += [f"above {self.above:g}"] if self.above is not None else []
        bounds += [f"at most {self.most:g}"] if self.most is not None else []
        if self.each and not (isinstance(value, int | float) and math.isfinite(value)):
            raise UsageError(f"{self.option} is {value!r}.", "it must be a number, or one for each input.")
        low = self.least is not None and not value >= self.least
        low |= self.above is not None and not value > self.above
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
