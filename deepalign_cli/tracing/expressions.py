"""What stands on an axis: labelled extents, units of groups, row-major products and concatenations.

An axis of a parameter begins as one free variable. What the operations demand binds variables to other
variables, or refines them to products and concatenations, as types are inferred (Milner 1978). Nothing
is ever unbound, so the group only shrinks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Unknown = tuple[int, tuple[int, ...]]
"""The exponent of a variable's units, or of those of a part that it was refined to, by places."""

Form = Mapping[Unknown, int]
"""With which exponent a unit's scale or sign multiplies a value: a linear form in unknowns."""


class Variable:
    """Units that are not known to be labelled: free, or bound to what `bound` says.

    Of what it is bound to, only the structure counts; forms come from the place where the variable stands.
    """

    __slots__ = ("bound", "number", "reason", "size")
    _numbers = itertools.count()

    def __init__(self, size: int) -> None:
        self.size = size
        self.number = next(Variable._numbers)
        self.bound: Expression | None = None
        self.reason = ""


@dataclass(frozen=True, slots=True, eq=False)
class Fixed:
    """Labelled places: none of them may move."""

    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The units of a variable, and the exponent with which they enter."""

    variable: Variable
    form: Form

    @property
    def size(self) -> int:
        """How many there are."""
        return self.variable.size


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Places by row-major order of several expressions."""

    parts: tuple[Expression, ...]

    @property
    def size(self) -> int:
        """How many places there are."""
        return math.prod(part.size for part in self.parts)


@dataclass(frozen=True, slots=True, eq=False)
class Concatenation:
    """The places of several expressions one after another."""

    parts: tuple[Expression, ...]

    @property
    def size(self) -> int:
        """How many places there are."""
        return sum(part.size for part in self.parts)


Expression = Fixed | Units | Product | Concatenation

ONE = Fixed(1)
NOTHING = Fixed(0)


def free(size: int, form: Form | None = None) -> Expression:
    """A free axis; without a form its exponent is an unknown of its own."""
    if size <= 1:
        return Fixed(size)
    variable = Variable(size)
    return Units(variable, {(variable.number, ()): 1} if form is None else form)


def resolve(e: Expression) -> Expression:
    """The expression with all bindings followed, in canonical form."""
    if isinstance(e, Fixed):
        return e
    if isinstance(e, Units):
        root = _root(e.variable)
        if root.bound is None:
            return e if root is e.variable else Units(root, e.form)
        return resolve(placed(root.bound, e.form))
    parts = [resolve(part) for part in e.parts]
    return product(parts) if isinstance(e, Product) else concatenation(parts)


def placed(structure: Expression, form: Form, path: tuple[int, ...] = ()) -> Expression:
    """A structure whose units have the exponents of the parts of `form`."""
    if isinstance(structure, Fixed):
        return structure
    if isinstance(structure, Units):
        return Units(structure.variable, _part(form, path))
    parts = tuple(placed(part, form, (*path, i)) for i, part in enumerate(structure.parts))
    return Product(parts) if isinstance(structure, Product) else Concatenation(parts)


def product(parts: Sequence[Expression]) -> Expression:
    """The canonical product: flat, without ones, and with leading concatenations multiplied out."""
    flat: list[Expression] = []
    for part in parts:
        for factor in part.parts if isinstance(part, Product) else (part,):
            if isinstance(factor, Fixed) and flat and isinstance(flat[-1], Fixed):
                flat[-1] = Fixed(flat[-1].size * factor.size)
            elif not (isinstance(factor, Fixed) and factor.size == 1):
                flat.append(factor)
    if len(flat) > 1 and isinstance(flat[0], Concatenation):  # (a|b)*c = a*c|b*c
        return concatenation([product([term, *flat[1:]]) for term in flat[0].parts])
    if len(flat) == 1:
        return flat[0]
    return Product(tuple(flat)) if flat else ONE


def concatenation(parts: Sequence[Expression]) -> Expression:
    """The canonical concatenation: flat, without empty parts, labelled neighbours joined."""
    flat: list[Expression] = []
    for part in parts:
        for term in part.parts if isinstance(part, Concatenation) else (part,):
            if isinstance(term, Fixed) and flat and isinstance(flat[-1], Fixed):
                flat[-1] = Fixed(flat[-1].size + term.size)
            elif term.size:
                flat.append(term)
    if len(flat) == 1:
        return flat[0]
    return Concatenation(tuple(flat)) if flat else NOTHING


def units_of(e: Expression) -> Iterator[Units]:
    """The units in an expression, in order."""
    if isinstance(e, Units):
        yield e
    elif not isinstance(e, Fixed):
        for part in e.parts:
            yield from units_of(part)


def with_forms(e: Expression, forms: Iterator[Form]) -> Expression:
    """The expression with its units' exponents taken from `forms` in order."""
    if isinstance(e, Units):
        return Units(e.variable, next(forms))
    if isinstance(e, Fixed):
        return e
    parts = tuple(with_forms(part, forms) for part in e.parts)
    return Product(parts) if isinstance(e, Product) else Concatenation(parts)


def scaled(e: Expression, times: int) -> Expression:
    """The expression with all exponents multiplied."""
    e = resolve(e)
    return with_forms(e, iter([{k: times * v for k, v in u.form.items()} for u in units_of(e)]))


def bare(e: Expression) -> Expression:
    """The expression with no exponents."""
    e = resolve(e)
    return with_forms(e, itertools.repeat({}))


def alike(a: Expression, b: Expression) -> bool:
    """Whether two resolved expressions have one structure, whatever their exponents."""
    if isinstance(a, Fixed) or isinstance(b, Fixed):
        return isinstance(a, Fixed) and isinstance(b, Fixed) and a.size == b.size
    if isinstance(a, Units) or isinstance(b, Units):
        return isinstance(a, Units) and isinstance(b, Units) and a.variable is b.variable
    return type(a) is type(b) and len(a.parts) == len(b.parts) and all(map(alike, a.parts, b.parts))


def _part(form: Form, path: tuple[int, ...]) -> Form:
    return {(number, (*p, *path)): c for (number, p), c in form.items()} if path else form


def _root(variable: Variable) -> Variable:
    """The last variable of a chain; the chain is made short on the way."""
    chain = []
    while isinstance(variable.bound, Units):
        chain.append(variable)
        variable = variable.bound.variable
    for link in chain[:-1]:
        link.bound = Units(variable, {})
    return variable
