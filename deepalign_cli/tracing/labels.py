"""Making axes equal, cutting them, freezing them, and collecting what exponents must satisfy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Flag, auto

from deepalign_cli.tracing.expressions import (
    NOTHING,
    ONE,
    Concatenation,
    Expression,
    Fixed,
    Form,
    Product,
    Units,
    alike,
    concatenation,
    free,
    placed,
    product,
    resolve,
    units_of,
    with_forms,
)


class Sense(Flag):
    """For which factors of a unit an equation between exponents holds."""

    NEITHER = 0
    SCALE = auto()
    SIGN = auto()
    BOTH = SCALE | SIGN


class NoRule(Exception):
    """An operation is used in a way that its rule does not know."""


@dataclass(frozen=True, slots=True)
class Equation:
    """The sum of the exponents of several axes, times their coefficients, is zero."""

    sense: Sense
    terms: tuple[tuple[int, Expression], ...]


class Labels:
    """The state of a trace: bindings live in the variables, equations here.

    `where` names the operation at hand; reasons for freezing quote it.
    """

    def __init__(self) -> None:
        self.equations: list[Equation] = []
        self.where = ""

    def freeze(self, e: Expression, reason: str) -> None:
        """Make all units of an axis labelled."""
        for units in units_of(resolve(e)):
            units.variable.bound = Fixed(units.size)
            units.variable.reason = f"{reason} [{self.where}]" if self.where else reason

    def cut(self, e: Expression, place: int) -> tuple[Expression, Expression]:
        """An axis before and from `place`."""
        e = resolve(e)
        if place <= 0 or place >= e.size:
            return (NOTHING, e) if place <= 0 else (e, NOTHING)
        if isinstance(e, Fixed):
            return Fixed(place), Fixed(e.size - place)
        if isinstance(e, Units):
            left, right = self._refined(e, Concatenation, place, e.size - place)
            return resolve(left), resolve(right)
        if isinstance(e, Concatenation):
            return self._cut_terms(e, place)
        return self._cut_block(e, place)

    def _cut_terms(self, e: Concatenation, place: int) -> tuple[Expression, Expression]:
        start = 0
        for i, term in enumerate(e.parts):
            if start + term.size > place:
                left, right = self.cut(term, place - start)
                return concatenation([*e.parts[:i], left]), concatenation([right, *e.parts[i + 1 :]])
            start += term.size
        raise AssertionError("a cut beyond the axis")

    def _cut_block(self, e: Product, place: int) -> tuple[Expression, Expression]:
        head, rest = e.parts[0], product(e.parts[1:])
        count, inside = divmod(place, rest.size)
        if not inside:
            left, right = self.cut(head, count)
            return product([left, resolve(rest)]), product([right, resolve(rest)])
        self.freeze(head, "cut inside a block")
        left, right = self.cut(rest, inside)
        rest, after = resolve(rest), head.size - count - 1
        before = [product([Fixed(count), rest])] if count else []
        behind = [product([Fixed(after), rest])] if after else []
        return concatenation([*before, left]), concatenation([right, *behind])

    def piece(self, e: Expression, start: int, length: int) -> Expression:
        """Some places of an axis in a row."""
        return self.cut(self.cut(e, start)[1], length)[0]

    def factored(self, e: Expression, outer: int) -> tuple[Expression, Expression]:
        """An axis as a product of `outer` blocks and what is in each. Raises NoRule where it cannot be."""
        e = resolve(e)
        inner = e.size // outer
        if outer == 1 or inner == 1:
            return (ONE, e) if outer == 1 else (e, ONE)
        if isinstance(e, Fixed):
            return Fixed(outer), Fixed(inner)
        if isinstance(e, Units):
            return self._refined(e, Product, outer, inner)
        if isinstance(e, Product):
            return self._factored_product(e, outer)
        if any(term.size % inner for term in e.parts):
            raise NoRule
        pairs = [self.factored(term, term.size // inner) for term in e.parts]
        first = pairs[0][1]
        for _, other in pairs[1:]:
            self.same(first, other)
        return concatenation([resolve(x) for x, _ in pairs]), resolve(first)

    def _factored_product(self, e: Product, outer: int) -> tuple[Expression, Expression]:
        head, rest = e.parts[0], product(e.parts[1:])
        if outer % head.size == 0:
            x, y = self.factored(rest, outer // head.size)
            return product([resolve(head), resolve(x)]), y
        if head.size % outer == 0:
            x, y = self.factored(head, outer)
            return x, product([resolve(y), resolve(rest)])
        raise NoRule

    def factors(self, e: Expression, sizes: Sequence[int]) -> list[Expression]:
        """An axis as a product of these sizes; where it cannot be one it is frozen."""
        parts: list[Expression] = []
        try:
            for size in sizes[:-1]:
                part, e = self.factored(e, size)
                parts.append(part)
        except NoRule:
            for x in (*parts, e):
                self.freeze(x, "a view that does not fit the blocks")
            return [Fixed(size) for size in sizes]
        return [resolve(x) for x in (*parts, e)]

    def _refined(
        self, e: Units, kind: type[Product | Concatenation], first: int, second: int
    ) -> tuple[Expression, Expression]:
        bound = kind((free(first, {}), free(second, {})))
        e.variable.bound = bound
        left, right = (placed(part, e.form, (i,)) for i, part in enumerate(bound.parts))
        return left, right

    def unify(self, a: Expression, b: Expression, reason: str = "meets a labelled axis") -> None:
        """Make two axes of one size the same, exponents aside."""
        a, b = resolve(a), resolve(b)
        if a.size != b.size:
            raise NoRule
        if alike(a, b):
            return
        if isinstance(a, Fixed) or isinstance(b, Fixed):
            self.freeze(b if isinstance(a, Fixed) else a, reason)
        elif isinstance(a, Units):
            self._bind(a, b)
        elif isinstance(b, Units):
            self._bind(b, a)
        elif isinstance(a, Concatenation) or isinstance(b, Concatenation):
            place = min(x.parts[0].size for x in (a, b) if isinstance(x, Concatenation))
            (left, right), (other_left, other_right) = self.cut(a, place), self.cut(b, place)
            self.unify(left, other_left, reason)
            self.unify(right, other_right, reason)
        else:
            self._unify_products(a, b, reason)

    def _bind(self, units: Units, e: Expression) -> None:
        if any(inner.variable is units.variable for inner in units_of(e)):
            self.freeze(e, "a group inside itself")
        else:
            units.variable.bound = placed(e, {})

    def _unify_products(self, a: Product, b: Product, reason: str) -> None:
        outer = min(a.parts[0].size, b.parts[0].size)
        try:
            (ax, ay), (bx, by) = self.factored(a, outer), self.factored(b, outer)
        except NoRule:
            self.freeze(a, "two products of different blocks")
            self.freeze(b, "two products of different blocks")
            return
        self.unify(ax, bx, reason)
        self.unify(ay, by, reason)

    def zero(self, axes: Iterable[Expression], sense: Sense = Sense.BOTH) -> None:
        """No unit of these axes may have a factor."""
        for e in axes:
            if sense and e.size > 1:
                self.equations.append(Equation(sense, ((1, e),)))

    def same(self, a: Expression, b: Expression, sense: Sense = Sense.BOTH) -> None:
        """Make two axes the same, exponents included."""
        self.unify(a, b)
        self.equations.append(Equation(sense, ((1, a), (-1, b))))

    def contract(self, a: Expression, b: Expression) -> None:
        """Sum over an axis of two factors: what multiplies the one divides the other."""
        self.unify(a, b, "contracted with a labelled axis")
        self.equations.append(Equation(Sense.BOTH, ((1, a), (1, b))))

    def times(self, a: Expression, b: Expression, powers: tuple[int, int] = (1, 1)) -> Expression:
        """The axis of an element-wise product, in which exponents add up."""
        self.unify(a, b)
        a, b = resolve(a), resolve(b)
        own, other = list(units_of(a)), list(units_of(b))
        if [u.variable for u in own] != [u.variable for u in other]:
            self.zero([a, b])
            return with_forms(a, iter([{}] * len(own)))
        pairs = zip(own, other, strict=True)
        return with_forms(a, iter([_added(u.form, v.form, powers) for u, v in pairs]))


def _added(a: Form, b: Form, powers: tuple[int, int]) -> Form:
    total = {k: powers[0] * c for k, c in a.items()}
    for k, c in b.items():
        total[k] = total.get(k, 0) + powers[1] * c
    return {k: c for k, c in total.items() if c}


def extent(parts: Iterable[Expression]) -> int:
    """The number of places of a product of axes."""
    return math.prod(part.size for part in parts)
