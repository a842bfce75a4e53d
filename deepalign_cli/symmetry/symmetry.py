"""A spec bound to shapes: sizes, the group's action on tensors, and the rows that a group moves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Num, Shaped
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.axes import Axis, Term
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import PERMUTATION, Kind
from deepalign_cli.symmetry.sizes import solve_sizes
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensors import widened

Weights = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One place where a group stands: tensor, axis, the slice of a concatenation, place in the product."""

    name: str
    axis: int
    start: int
    stop: int
    factors: tuple[int, int, int]  # the product's extents before the group, of the group, after it
    mark: str


class Symmetry:
    """A spec bound to the shapes of a checkpoint.

    Raises:
        SpecError: the spec names a tensor that is not there, or does not fit a shape; where two
            tensors give a group two sizes, both are named.
    """

    def __init__(self, spec: Spec, shapes: Shapes) -> None:
        self.spec = spec
        self.shapes = dict(shapes)
        self.sizes: Mapping[str, int] = solve_sizes(spec, shapes)
        self.kinds: Mapping[str, Kind] = {g: spec.kinds.get(g, PERMUTATION) for g in self.sizes}
        self.occurrences: dict[str, tuple[Occurrence, ...]] = dict.fromkeys(self.sizes, ())
        for name, axes in spec.axes.items():
            for number, axis in enumerate(axes):
                self._index(name, number, axis)

    def __repr__(self) -> str:
        return f"Symmetry({self.spec.source}: {len(self.sizes)} groups, {sum(self.sizes.values())} units)"

    @property
    def turning(self) -> tuple[str, ...]:
        """The groups whose units may change their sign."""
        return tuple(group for group, kind in self.kinds.items() if kind.turns)

    @property
    def stretching(self) -> tuple[str, ...]:
        """The groups whose units may change their size."""
        return tuple(group for group, kind in self.kinds.items() if kind.stretches)

    def moves(self, name: str) -> bool:
        """Whether any group moves this tensor."""
        return bool(self.groups_of(name))

    def groups_of(self, name: str) -> tuple[str, ...]:
        """The groups that move this tensor."""
        return tuple(dict.fromkeys(g for axis in self.spec.axes.get(name, ()) for g in axis.groups()))

    def act(self, g: Element, name: str, w: Shaped[Tensor, " ..."]) -> Shaped[Tensor, " ..."]:
        r"""The tensor `name` after the element has moved its units; the same tensor where none do.

        Permuting is exact in every dtype. Scales are applied in float32 or wider and rounded once.

        >>> spec = Spec.parse('[axes]\nbias = "k"\nweight = "k 2"\n')
        >>> symmetry = Symmetry(spec, {"bias": (3,), "weight": (3, 2)})
        >>> g = Element({"k": torch.tensor([2, 0, 1])})
        >>> symmetry.act(g, "bias", torch.tensor([10.0, 11.0, 12.0]))
        tensor([12., 10., 11.])
        """
        factors = []
        for number, axis in enumerate(self.spec.axes.get(name, ())):
            if (index := self._permutation(axis, g)) is not None:
                w = w.index_select(number, index.to(w.device))
            if (factor := self._factor(axis, g)) is not None:
                factors.append((number, factor))
        return _scaled(w, factors, name) if factors else w

    def apply(self, g: Element, weights: Weights) -> dict[str, Tensor]:
        """All tensors after the element has acted."""
        return {name: self.act(g, name, w) for name, w in weights.items()}

    def rows(self, group: str, name: str, w: Num[Tensor, " ..."]) -> Num[Tensor, "n rest"]:
        """The tensor's entries by unit of `group`: one row a unit, all its places side by side."""
        return torch.cat([self.unfold(o, w) for o in self.occurrences[group] if o.name == name], dim=1)

    @staticmethod
    def unfold(place: Occurrence, w: Num[Tensor, " ..."]) -> Num[Tensor, "n rest"]:
        """The entries that one occurrence of a group moves, one row a unit."""
        part = w.movedim(place.axis, 0)[place.start : place.stop]
        outer, size, inner = place.factors
        return part.reshape(outer, size, inner, -1).movedim(1, 0).reshape(size, -1)

    def identity(self) -> Element:
        """The element that leaves every unit in its place."""
        return Element({g: torch.arange(n) for g, n in self.sizes.items()})

    def random(self, rng: torch.Generator) -> Element:
        """A random element: uniform permutations, and factors as each group's kind draws them."""
        perm = {g: torch.randperm(n, generator=rng) for g, n in self.sizes.items()}
        draws = {g: torch.rand(n, generator=rng, dtype=torch.float64) for g, n in self.sizes.items()}
        scale = {g: factors(draws[g]) for g, kind in self.kinds.items() if (factors := kind.factors)}
        return Element(perm, scale)

    def only(self, g: Element, groups: Iterable[str]) -> Element:
        """The part of an element that acts on `groups`."""
        keep = set(groups)
        return Element(*({k: v for k, v in part.items() if k in keep} for part in (g.perm, g.scale)))

    def _index(self, name: str, number: int, axis: Axis) -> None:
        start = 0
        for term in axis.terms:
            sizes = [self._extent(atom.name, atom.size) for atom in term]
            stop = start + math.prod(sizes)
            for place, atom in enumerate(term):
                if atom.name:
                    factors = (math.prod(sizes[:place]), sizes[place], math.prod(sizes[place + 1 :]))
                    occurrence = Occurrence(name, number, start, stop, factors, atom.mark)
                    self.occurrences[atom.name] += (occurrence,)
            start = stop

    def _extent(self, name: str, size: int) -> int:
        return self.sizes[name] if name else size

    def _permutation(self, axis: Axis, g: Element) -> Tensor | None:
        if not any(name in g.perm for name in axis.groups()):
            return None
        if len(axis.terms) == 1 and len(axis.terms[0]) == 1:
            return g.perm[axis.terms[0][0].name]
        parts, start = [], 0
        for term in axis.terms:
            sizes = [self._extent(atom.name, atom.size) for atom in term]
            index = torch.arange(start, start + math.prod(sizes)).reshape(sizes)
            for dim, atom in enumerate(term):
                if atom.name in g.perm:
                    index = index.index_select(dim, g.perm[atom.name])
            parts.append(index.flatten())
            start += math.prod(sizes)
        return torch.cat(parts)

    def _factor(self, axis: Axis, g: Element) -> Tensor | None:
        marked = any(a.mark and a.name in g.scale for term in axis.terms for a in term)
        return torch.cat([self._term_factor(term, g) for term in axis.terms]) if marked else None

    def _term_factor(self, term: Term, g: Element) -> Tensor:
        sizes = [len(g.scale[a.name]) if a.name in g.scale else self._extent(a.name, a.size) for a in term]
        factor = torch.ones(sizes, dtype=torch.float64)
        for dim, atom in enumerate(term):
            if atom.mark and atom.name in g.scale:
                scale = g.scale[atom.name] if atom.mark == "+" else 1.0 / g.scale[atom.name]
                factor = factor * scale.reshape([-1 if d == dim else 1 for d in range(len(term))])
        return factor.flatten()


def _scaled(w: Tensor, factors: list[tuple[int, Tensor]], name: str) -> Tensor:
    if not w.is_floating_point():
        message = f"'{name}' holds {w.dtype} and cannot be scaled."
        raise SpecError(message, "remove the + or - mark from this tensor in the spec.")
    wide = widened(w)
    for number, factor in factors:
        wide = wide * factor.to(wide).reshape([-1 if d == number else 1 for d in range(w.ndim)])
    return wide.to(w.dtype)
