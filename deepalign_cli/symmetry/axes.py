"""The axis grammar: `"10 r*16"`, `"3*heads*64 d"`, `"k c0|c1|c2"`, `"h*(q|k|v) d"`, `"+h -g"`, `"~k"`.

A tensor's axes are separated by spaces. An axis is a sum (`|`, a concatenation) of products (`*`,
row-major). A factor of a product is a sum in parentheses or an atom: a number (a labelled, inert extent)
or the name of a group. Before a group's name, `~` says that the axis flips with the unit's sign, `+` that it
is multiplied by the unit's scale and `-` that it is divided by it. Without a mark the axis only permutes.

>>> rows, columns = parse_axes("h*(q|v) ~+d|2")
>>> len(rows.terms), len(columns.terms)
(1, 2)
>>> list(rows.groups()), list(columns.groups())
(['h', 'q', 'v'], ['d'])
>>> format_axes((rows, columns))
'h*(q|v) ~+d|2'
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deepalign_cli.errors import SpecError

_ATOM = re.compile(r"(?P<mark>~?[+-]?)(?P<name>[A-Za-z_][\w.]*)|(?P<number>\d{1,12})")
_TOKEN = re.compile(r"[()|*]|[^()|*]+")
GROUP_NAME = re.compile(r"[A-Za-z_][\w.]*")
DEEPEST = 16  # parentheses inside one another
_MOST_PATHS = 2**16  # through the sums of an axis: a short text can have 2^n


@dataclass(frozen=True, slots=True)
class Atom:
    """A group (`name`, perhaps with a `mark`) or, where `name` is empty, a labelled extent `size`."""

    name: str = ""
    mark: str = ""
    size: int = 0

    def __str__(self) -> str:
        return f"{self.mark}{self.name}" if self.name else str(self.size)

    @property
    def exponent(self) -> int:
        """The power of the unit's scale that multiplies the axis: 1 for `+`, -1 for `-`, else 0."""
        return {"+": 1, "-": -1}.get(self.mark[-1:], 0)


@dataclass(frozen=True, slots=True)
class Axis:
    """A concatenation of row-major products; a factor that is an `Axis` itself stands in parentheses."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "|".join("*".join(map(_factor_text, term)) for term in self.terms)

    def atoms(self) -> Iterator[Atom]:
        """All atoms, in the order in which they are written."""
        for term in self.terms:
            for factor in term:
                yield from factor.atoms() if isinstance(factor, Axis) else (factor,)

    def groups(self) -> Iterator[str]:
        """The names of the groups on this axis, in order, with repeats."""
        return (atom.name for atom in self.atoms() if atom.name)


Term = tuple[Atom | Axis, ...]
Axes = tuple[Axis, ...]


def parse_axes(text: str, where: str = "") -> Axes:
    """Read the axes of one tensor; `where` names the tensor in errors.

    Raises:
        SpecError: the text is not in the grammar.
    """
    return tuple(_Reader(part, where).whole() for part in text.split())


def format_axes(axes: Axes) -> str:
    """The text that `parse_axes` reads back."""
    return " ".join(map(str, axes))


def without_marks(axes: Axes, keep: frozenset[str] = frozenset()) -> Axes:
    """The same axes with the marks of all groups but those in `keep` taken off."""
    return changed(axes, lambda atom: atom if atom.name in keep or not atom.mark else Atom(atom.name))


def labelled(axes: Axes, sizes: Mapping[str, int]) -> Axes:
    """The same axes with the groups in `sizes` as numbers, which join the numbers beside them.

    >>> format_axes(labelled(parse_axes("h*(q|v) d*2|3"), {"q": 4, "v": 4, "d": 5}))
    'h*8 13'
    """
    numbers = changed(axes, lambda atom: Atom(size=sizes[atom.name]) if atom.name in sizes else atom)
    return tuple(map(_joined, numbers))


def changed(axes: Axes, change: Callable[[Atom], Atom]) -> Axes:
    """The same axes with every atom changed."""

    def factor(one: Atom | Axis) -> Atom | Axis:
        return changed((one,), change)[0] if isinstance(one, Axis) else change(one)

    return tuple(Axis(tuple(tuple(map(factor, term)) for term in axis.terms)) for axis in axes)


def _joined(axis: Axis) -> Axis:
    """The axis with neighbouring numbers multiplied in products and added in sums."""
    terms: list[Term] = []
    for term in map(_joined_factors, axis.terms):
        if terms and (a := _number(terms[-1])) and (b := _number(term)):
            terms[-1] = (Atom(size=a + b),)
        else:
            terms.append(term)
    return Axis(tuple(terms))


def _joined_factors(term: Term) -> Term:
    factors: list[Atom | Axis] = []
    for one in term:
        factor = _joined(one) if isinstance(one, Axis) else one
        if isinstance(factor, Axis) and len(factor.terms) == 1 and len(factor.terms[0]) == 1:
            factor = factor.terms[0][0]
        if factors and (a := _number(factors[-1:])) and (b := _number((factor,))):
            factors[-1] = Atom(size=a * b)
        else:
            factors.append(factor)
    return tuple(factors)


def _number(term: Sequence[Atom | Axis]) -> int:
    """The number that a term is; 0 where it is none."""
    first = term[0]
    return first.size if len(term) == 1 and isinstance(first, Atom) and not first.name else 0


def _factor_text(factor: Atom | Axis) -> str:
    return f"({factor})" if isinstance(factor, Axis) else str(factor)


class _Reader:
    """Reads one axis by recursive descent."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._tokens = [*reversed(_TOKEN.findall(text))]

    def whole(self) -> Axis:
        axis = self._sum(0)
        if self._tokens:
            raise self._unbalanced()
        self._check(axis)
        return axis

    def _sum(self, depth: int) -> Axis:
        terms = [self._product(depth)]
        while self._takes("|"):
            terms.append(self._product(depth))
        return Axis(tuple(terms))

    def _product(self, depth: int) -> Term:
        factors = [self._factor(depth)]
        while self._takes("*"):
            factors.append(self._factor(depth))
        return tuple(factors)

    def _factor(self, depth: int) -> Atom | Axis:
        if not self._takes("("):
            return self._atom()
        if depth == DEEPEST:
            message = f"the axis '{_shortened(self._text)}' of '{self._where}' nests parentheses too deeply."
            raise SpecError(message, f"at most {DEEPEST} may stand inside one another.")
        inner = self._sum(depth + 1)
        if not self._takes(")"):
            raise self._unbalanced()
        return inner

    def _takes(self, token: str) -> bool:
        takes = self._tokens[-1:] == [token]
        if takes:
            self._tokens.pop()
        return takes

    def _atom(self) -> Atom:
        text = "" if self._tokens[-1:] in ([], ["|"], ["*"], [")"]) else self._tokens.pop()
        match = _ATOM.fullmatch(text)
        if match is None or (match["number"] and int(match["number"]) == 0):
            raise SpecError(
                f"'{_shortened(text)}' in the axis '{_shortened(self._text)}' of '{self._where}' "
                "is neither a number nor a group's name.",
                "an axis is made of numbers and names with *, | and parentheses, such as 64, k, 3*heads*64, "
                "c0|c1 or h*(q|k|v).",
            )
        if match["number"]:
            return Atom(size=int(match["number"]))
        return Atom(match["name"], match["mark"])

    def _unbalanced(self) -> SpecError:
        message = f"the parentheses in the axis '{_shortened(self._text)}' of '{self._where}' do not match."
        hint = "a sum in parentheses is a factor of a product, without spaces inside: h*(q|k|v)."
        return SpecError(message, hint)

    def _check(self, axis: Axis) -> None:
        """Check that no product has a group twice, and that there are not too many paths through the sums."""
        if _repeats(axis):
            message = f"the axis '{_shortened(self._text)}' of '{self._where}' multiplies a group by itself."
            raise SpecError(message, "a group may stand once in a product; a concatenation is written a|b.")
        if _paths(axis) > _MOST_PATHS:
            message = f"the axis '{_shortened(self._text)}' of '{self._where}' has too many parts."
            raise SpecError(message, f"its sums may multiply out to at most {_MOST_PATHS:,} products.")


def _repeats(axis: Axis) -> bool:
    """Whether a group meets itself on a path through the sums: in two factors of one product."""
    for term in axis.terms:
        names = [{*factor.groups()} if isinstance(factor, Axis) else {factor.name} - {""} for factor in term]
        if len(set[str]().union(*names)) < sum(map(len, names)):
            return True
        if any(isinstance(factor, Axis) and _repeats(factor) for factor in term):
            return True
    return False


def _paths(axis: Axis) -> int:
    return sum(math.prod(_paths(f) for f in term if isinstance(f, Axis)) for term in axis.terms)


def _shortened(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
