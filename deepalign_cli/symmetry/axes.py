"""The axis grammar: `"10 r*16"`, `"3*heads*64 d"`, `"k c0|c1|c2"`, `"+h -g"`.

A tensor's axes are separated by spaces. An axis is a sum (`|`, a concatenation) of products (`*`,
row-major) of atoms. An atom is a number (a labelled, inert extent) or the name of a group; before a
group's name, `+` says that the axis is multiplied by the unit's scale or sign and `-` that it is
divided by it. Without a mark the axis only permutes.

>>> rows, columns = parse_axes("3*heads*64 +d|2")
>>> len(rows.terms), len(columns.terms)
(1, 2)
>>> list(rows.groups()), list(columns.groups())
(['heads'], ['d'])
>>> format_axes((rows, columns))
'3*heads*64 +d|2'
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from deepalign_cli.errors import SpecError

_ATOM = re.compile(r"(?P<mark>[+-]?)(?P<name>[A-Za-z_][\w.]*)|(?P<number>\d{1,12})")
GROUP_NAME = re.compile(r"[A-Za-z_][\w.]*")


@dataclass(frozen=True, slots=True)
class Atom:
    """A group (`name`, perhaps with a `mark`) or, where `name` is empty, a labelled extent `size`."""

    name: str = ""
    mark: str = ""
    size: int = 0

    def __str__(self) -> str:
        return f"{self.mark}{self.name}" if self.name else str(self.size)


Term = tuple[Atom, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """A concatenation of row-major products of atoms."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "|".join("*".join(map(str, term)) for term in self.terms)

    def groups(self) -> Iterator[str]:
        """The names of the groups on this axis, in order, with repeats."""
        return (atom.name for term in self.terms for atom in term if atom.name)


Axes = tuple[Axis, ...]


def parse_axes(text: str, where: str = "") -> Axes:
    """Read the axes of one tensor; `where` names the tensor in errors.

    Raises:
        SpecError: the text is not in the grammar.
    """
    return tuple(_parse_axis(part, where) for part in text.split())


def format_axes(axes: Axes) -> str:
    """The text that `parse_axes` reads back."""
    return " ".join(map(str, axes))


def without_marks(axes: Axes, keep: frozenset[str] = frozenset()) -> Axes:
    """The same axes with the marks of all groups but those in `keep` taken off."""

    def bare(atom: Atom) -> Atom:
        return atom if atom.name in keep or not atom.mark else Atom(atom.name)

    return tuple(Axis(tuple(tuple(bare(a) for a in term) for term in axis.terms)) for axis in axes)


def _parse_axis(text: str, where: str) -> Axis:
    products = (term.split("*") for term in text.split("|"))
    axis = Axis(tuple(tuple(_parse_atom(atom, text, where) for atom in term) for term in products))
    for term in axis.terms:
        names = [atom.name for atom in term if atom.name]
        if len(names) != len(set(names)):
            message = f"the axis '{text}' of '{where}' multiplies a group by itself."
            raise SpecError(message, "a group may stand once in a product; a concatenation is written a|b.")
    return axis


def _parse_atom(text: str, axis: str, where: str) -> Atom:
    match = _ATOM.fullmatch(text)
    if match is None or (match["number"] and int(match["number"]) == 0):
        raise SpecError(
            f"'{text}' in the axis '{axis}' of '{where}' is neither a number nor a group's name.",
            "an axis is made of numbers and names with * and |, such as 64, k, 3*heads*64 or c0|c1.",
        )
    if match["number"]:
        return Atom(size=int(match["number"]))
    return Atom(match["name"], match["mark"])
