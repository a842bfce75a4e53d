"""Words of the command line as values: `--model-arg k=v` for factories, `--design k=v` for families."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from deepalign_cli.errors import SpecError, UsageError

T = TypeVar("T")

OWN_CODE = "bring the network as code: --model file.py:factory, where factory() returns an nn.Module."


class Options:
    """What a user says of a network of a family, beside its shapes; `known` explains each option.

    Raises:
        UsageError: an option is given that the family does not have.
    """

    def __init__(self, family: str, values: Mapping[str, str], known: Mapping[str, str]) -> None:
        self.family, self.values, self.known = family, values, known
        for name in values:
            if name not in known:
                raise UsageError(f"{family} has no option '{name}'.", f"known: {', '.join(known)}.")

    def needs(self, *names: str) -> None:
        """See that options are given that names and shapes do not tell.

        Raises:
            SpecError: some are not; they are listed.
        """
        missing = [name for name in names if name not in self.values]
        if missing:
            wanted = " ".join(f"--design {name}={self.known[name].split(';')[0]}" for name in missing)
            either = " (or --activation relu)" if missing == ["activation"] else ""
            meaning = "; ".join(f"{name}: {self.known[name].partition(';')[2].strip()}" for name in missing)
            raise SpecError(
                f"the names and shapes of {self.family} do not tell its {_listed(missing)}.",
                f"give {wanted}{either} ({meaning}), or {OWN_CODE}",
            )

    def read(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """An option's value.

        Raises:
            UsageError: `parse` raises ValueError.
        """
        if name not in self.values:
            return default
        try:
            return parse(self.values[name])
        except ValueError as error:
            reason = f": {error}" if str(error) else ""
            raise UsageError(
                f"{name}={self.values[name]} is not usable{reason}.", f"--design {name}={self._help(name)}."
            ) from None

    def _help(self, name: str) -> str:
        example, _, meaning = self.known[name].partition(";")
        return f"{example} ({meaning.strip()})"


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser of one of some words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it is none of {', '.join(choices)}")
        return text

    return parse


def whole(text: str, least: int = 1) -> int:
    """A whole number from `least`."""
    number = int(text)
    if not least <= number < 2**20:
        raise ValueError(f"it is no whole number from {least}")
    return number


def positive(text: str) -> float:
    """A finite number above 0."""
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise ValueError("it is no number above 0")
    return number


def wholes(text: str, least: int = 1) -> tuple[int, ...]:
    """Whole numbers from `least` with commas between; `none` is none of them."""
    return () if text == "none" else tuple(whole(part, least) for part in text.split(","))


def for_each(values: tuple[int, ...], count: int) -> tuple[int, ...]:
    """One value for each of `count` layers: as many as there are, or one for all."""
    if len(values) not in (1, count):
        raise ValueError(f"there are {count} layers")
    return values * count if len(values) == 1 else values


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
