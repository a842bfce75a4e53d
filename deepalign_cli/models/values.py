"""Options of families as values (`--design k=v`), and what reading a family shares."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from deepalign_cli.errors import SpecError, UsageError
from deepalign_cli.models.run import Run

T = TypeVar("T")

# A network, what it is in words, and its input's shape where it is known.
ReadNetwork = tuple[Run, str, tuple[int, ...] | None]

OWN_CODE = "give the network as code: --model file.py:factory, where factory() returns an nn.Module."


def unclear(path: str) -> SpecError:
    """The error for a module whose name and shapes do not say what it computes."""
    return SpecError(f"the name and shapes of '{path}' do not say what it computes.", OWN_CODE)


class Options:
    """What a user says about a network besides its shapes; `known` explains each option.

    Raises:
        UsageError: the family does not have an option.
    """

    def __init__(self, family: str, values: Mapping[str, str], known: Mapping[str, str]) -> None:
        self.family, self.values, self.known = family, values, known
        for name in values:
            if name not in known:
                raise UsageError(f"{family} has no option '{name}'.", f"known: {', '.join(known)}.")

    def needs(self, *names: str) -> None:
        """Require options that names and shapes do not tell.

        Raises:
            SpecError: some are missing; they are listed.
        """
        missing = [name for name in names if name not in self.values]
        if missing:
            wanted = " ".join(f"--design {name}={self.known[name].split(';')[0]}" for name in missing)
            either = " (or --activation relu)" if missing == ["activation"] else ""
            meaning = "; ".join(f"{name}: {self.known[name].partition(';')[2].strip()}" for name in missing)
            raise SpecError(
                f"the names and shapes of {self.family} do not tell its {', '.join(missing)}.",
                f"add {wanted}{either} ({meaning}), or {OWN_CODE}",
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
            example, _, meaning = self.known[name].partition(";")
            raise UsageError(
                f"{name}={self.values[name]} does not work: {error}.",
                f"--design {name}={example} ({meaning.strip()}).",
            ) from None


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser of one of some words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return text

    return parse


def whole(text: str, least: int = 1) -> int:
    """An integer from `least`."""
    number = int(text)
    if not least <= number < 2**20:
        raise ValueError(f"it must be an integer from {least}")
    return number


def positive(text: str) -> float:
    """A finite number above 0."""
    number = float(text)
    if not (math.isfinite(number) and number > 0):
        raise ValueError("it must be a number above 0")
    return number


def wholes(text: str, least: int = 1) -> tuple[int, ...]:
    """Integers from `least` with commas between; `none` for no number."""
    return () if text == "none" else tuple(whole(part, least) for part in text.split(","))


def for_each(values: tuple[int, ...], count: int) -> tuple[int, ...]:
    """One value for each of `count` layers: as many as there are, or one for all."""
    if len(values) not in (1, count):
        raise ValueError(f"there are {count} layers")
    return values * count if len(values) == 1 else values
