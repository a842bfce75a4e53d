"""A spec bound to shapes: sizes, the group's action on tensors, and the rows that a group moves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Num, Shaped
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.axes import Atom
from deepalign_cli.symmetry.blocks import Block, blocks, order
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import PERMUTATION, Kind
from deepalign_cli.symmetry.moves import Move
from deepalign_cli.symmetry.norm_gains import NormGains
from deepalign_cli.symmetry.phases import Phases
from deepalign_cli.symmetry.sizes import solve_sizes
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensors import narrowed, widened
from deepalign_cli.symmetry.turns import Turn, random_rotations

Weights = Mapping[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One place where a group stands: tensor, axis, block of the axis, number in the block's product.

    A unit's scale c multiplies the entries by |c|^exponent, and by its sign where it `flips` them; both as
    far as the group's kind goes.
    """

    name: str
    axis: int
    block: Block
    number: int
    exponent: int
    flips: bool

    @property
    def factors(self) -> tuple[int, int, int]:
        """The product's extents before the group, of the group, after it."""
        sizes = self.block.sizes
        return math.prod(sizes[: self.number]), sizes[self.number], math.prod(sizes[self.number + 1 :])


class Symmetry:
    """A spec bound to the shapes of a checkpoint.

    Raises:
        SpecError: the spec names a tensor that is not there, or does not fit a shape; where two
            tensors give a group two sizes, both are named; or a group whose units turn in pairs is odd.
    """

    def __init__(self, spec: Spec, shapes: Shapes) -> None:
        self.spec = spec
        self.shapes = dict(shapes)
        self.sizes: Mapping[str, int] = solve_sizes(spec, shapes)
        self.kinds: Mapping[str, Kind] = {g: spec.kinds.get(g, PERMUTATION) for g in self.sizes}
        of_axis = {a: blocks(a, self.sizes) for a in {axis for axes in spec.axes.values() for axis in axes}}
        self.blocks: Mapping[str, tuple[tuple[Block, ...], ...]] = {
            name: tuple(of_axis[axis] for axis in axes) for name, axes in spec.axes.items()
        }
        self.occurrences: dict[str, tuple[Occurrence, ...]] = dict.fromkeys(self.sizes, ())
        for name in spec.axes:
            self._index(name)
        for group in (g for g, kind in self.kinds.items() if kind.pairs and self.sizes[g] % 2):
            problem = f"the group '{group}' has {self.sizes[group]} units, which cannot turn in pairs."
            raise SpecError(problem, f"a group of kind {self.kinds[group]} has an even number of units.")
        self.within = {g: self._outer(g) for g, kind in self.kinds.items() if kind.mixes}
        self.norms = NormGains(spec, self.shapes)
        self.phases = Phases(spec, self.kinds)

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
        """Whether any group moves this tensor, or it is a gain that an element replaces."""
        return bool(self.groups_of(name)) or name in self.spec.gains

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
        return self._turned(g, name, w) if self.turns(g, name) else self.move(g, name)(w)

    def turns(self, g: Element, name: str) -> bool:
        """Whether an element turns units of a tensor, or exchanges a gain that it meets."""
        exchanges = bool(g.enter or g.leave) and name in self.norms
        return exchanges or not g.turn.keys().isdisjoint(self.groups_of(name))

    def move(self, g: Element, name: str) -> Move:
        """What an element does to a tensor besides turning its units."""
        g = self.phases.felt(g, name)
        axes = list(enumerate(self.blocks.get(name, ())))
        extents = self.shapes.get(name, ())
        indices = {number: _moving(_permutation(parts, g), extents[number]) for number, parts in axes}
        factors = {number: self._factor(parts, g) for number, parts in axes}
        return Move(name, _given(indices), _given(factors), self.phases.added(g, name))

    def _turned(self, g: Element, name: str, w: Tensor) -> Tensor:
        """The same where units turn: out of the gains of one network, and into those of the other."""
        if not w.is_floating_point():
            raise SpecError(
                f"'{name}' holds {w.dtype} and cannot be turned.", "take its axes out of the spec."
            )
        wide = self.norms.taken_in(name, widened(w), g.enter)
        wide = self.move(g, name)(wide)
        for number, parts in enumerate(self.blocks.get(name, ())):
            wide = turned(wide, number, parts, g.turn)
        return narrowed(self.norms.given_back(name, wide, g.leave), w.dtype, name)

    def apply(self, g: Element, weights: Weights) -> dict[str, Tensor]:
        """All tensors after the element has acted."""
        return {name: self.act(g, name, w) for name, w in weights.items()}

    def rows(self, group: str, name: str, w: Num[Tensor, " ..."]) -> Num[Tensor, "n rest"]:
        """The tensor's entries by unit of `group`: one row a unit, all its places side by side."""
        return torch.cat([self.unfold(o, w) for o in self.occurrences[group] if o.name == name], dim=1)

    @staticmethod
    def unfold(place: Occurrence, w: Num[Tensor, " ..."]) -> Num[Tensor, "n rest"]:
        """The entries that one occurrence of a group moves, one row a unit."""
        part = place.block.cut(w.movedim(place.axis, 0), 0)
        outer, size, inner = place.factors
        return part.reshape(outer, size, inner, -1).movedim(1, 0).reshape(size, -1)

    def identity(self) -> Element:
        """The element that leaves every unit in its place."""
        return Element({g: torch.arange(n) for g, n in self.sizes.items() if g not in self.within})

    def random(self, rng: torch.Generator) -> Element:
        """A random element: uniform permutations, and what each group's kind draws besides; and phases.

        It acts on networks whose norms on turning groups have no gains.
        """
        placed = {g: n for g, n in self.sizes.items() if g not in self.within}
        perm = {g: torch.randperm(n, generator=rng) for g, n in placed.items()}
        draws = {g: torch.rand(n, generator=rng, dtype=torch.float64) for g, n in placed.items()}
        scale = {g: factors(draws[g]) for g in placed if (factors := self.kinds[g].factors)}
        turn = {}
        for group, outer in self.within.items():
            heads = self.sizes[outer] if outer else 1
            nearest = self.kinds[group].nearest
            turn[group] = Turn(random_rotations(nearest, heads, self.sizes[group], rng), outer)
        return Element(perm, scale, turn, shift=self.phases.random(self.sizes, rng))

    def without_gains(self, weights: Weights) -> Element:
        """The element that takes the gains of a network's norms into the layers behind them.

        Raises:
            MismatchError: a gain is 0, or so small that dividing by it would lose digits.
        """
        return Element({}, enter=self.norms.of(weights))

    def only(self, g: Element, groups: Iterable[str]) -> Element:
        """The part of an element that acts on `groups`."""
        keep = set(groups)
        parts = (g.perm, g.scale, g.shift)
        perm, scale, shift = ({k: v for k, v in part.items() if k in keep} for part in parts)
        turn = {group: one for group, one in g.turn.items() if group in keep}
        return Element(perm, scale, turn, g.enter, g.leave, shift)

    def _outer(self, group: str) -> str:
        """The group whose units each have their own rotation of this one; empty where there is one for all.

        It stands before the group wherever that stands.
        """
        places = self.occurrences[group]
        before = [{a.name for a, _, _ in p.block.factors[: p.number] if a.name} for p in places]
        shared = set[str].intersection(*before) if before else set()
        shared -= self.spec.mixing  # whose units are no longer told apart
        return next((a.name for a, _, _ in places[0].block.factors if a.name in shared), "")

    def _index(self, name: str) -> None:
        places = (
            (axis, block, number, atom)
            for axis, parts in enumerate(self.blocks[name])
            for block in parts
            for number, (atom, _, _) in enumerate(block.factors)
            if atom.name
        )
        for axis, block, number, atom in places:
            kind = self.kinds[atom.name]
            exponent, flips = atom.exponent * kind.stretches, kind.turns and self.spec.flips(atom)
            self.occurrences[atom.name] += (Occurrence(name, axis, block, number, exponent, flips),)

    def _factor(self, parts: Sequence[Block], g: Element) -> Tensor | None:
        """What the entries of an axis are multiplied by; None where nothing but permutes."""
        atoms = (atom for block in parts for atom, _, _ in block.factors)
        if not any(atom.mark and atom.name in g.scale for atom in atoms):
            return None
        return _joined(parts, [self._block_factor(block, g) for block in parts])

    def _block_factor(self, block: Block, g: Element) -> Tensor:
        sizes = [len(g.scale[a.name]) if a.name in g.scale else size for a, size, _ in block.factors]
        factor = torch.ones(sizes, dtype=torch.float64)
        for dim, (atom, _, _) in enumerate(block.factors):
            if atom.mark and atom.name in g.scale:
                own = self._power(atom, g.scale[atom.name])
                factor = factor * own.reshape([-1 if d == dim else 1 for d in range(len(sizes))])
        return factor.flatten()

    def _power(self, atom: Atom, scale: Tensor) -> Tensor:
        """The factors that units of these scales have on an axis."""
        size = scale.abs() if atom.exponent else torch.ones_like(scale)
        size = 1.0 / size if atom.exponent < 0 else size
        return size * scale.sign() if self.spec.flips(atom) else size


def turned(w: Tensor, axis: int, parts: Sequence[Block], turns: Mapping[str, Turn]) -> Tensor:
    """The tensor with an axis' turning units multiplied by their matrices."""
    for block in parts:
        for number, (atom, _, _) in enumerate(block.factors):
            if atom.name in turns:
                w = _one_turned(w, axis, block, number, turns[atom.name])
    return w


def _one_turned(w: Tensor, axis: int, block: Block, number: int, turn: Turn) -> Tensor:
    """The same for one factor of one block: x[h, .., j, ..] becomes sum_j Q[h, i, j] x[h, .., j, ..]."""
    matrix = turn.matrix.to(w)
    part = block.cut(w.movedim(axis, 0), 0)
    x = part.reshape(*block.sizes, *part.shape[1:])
    names = [atom.name for atom, _, _ in block.factors]
    if turn.within:
        x = x.movedim((names.index(turn.within), number), (0, 1))
        new = (matrix @ x.flatten(2)).reshape(x.shape) if x.ndim > 2 else (matrix @ x[:, :, None])[:, :, 0]
        new = new.movedim((0, 1), (names.index(turn.within), number))
    else:
        new = torch.tensordot(matrix[0], x, ([1], [number])).movedim(0, number)
    new = new.reshape(part.shape).movedim(0, axis)
    if block.start == 0 and block.stop == w.shape[axis]:  # which saves a copy of the whole
        return new
    return w.index_copy(axis, block.places().flatten().to(w.device), new)


def _moving(index: Tensor | None, extent: int) -> Tensor | None:
    """The index of an axis, where it moves anything, or leaves entries out."""
    return None if index is None or torch.equal(index, torch.arange(extent)) else index


def _given(values: Mapping[int, Tensor | None]) -> dict[int, Tensor]:
    return {number: value for number, value in values.items() if value is not None}


def _permutation(parts: Sequence[Block], g: Element) -> Tensor | None:
    """Which entry comes to each place of an axis; None where all stay."""
    if not any(atom.name in g.perm for block in parts for atom, _, _ in block.factors):
        return None
    if len(parts) == 1 and len(parts[0].factors) == 1:
        return g.perm[parts[0].factors[0][0].name]
    moved = []
    for block in parts:
        index = block.places()
        for dim, (atom, _, _) in enumerate(block.factors):
            if atom.name in g.perm:
                index = index.index_select(dim, g.perm[atom.name])
        moved.append(index.flatten())
    return _joined(parts, moved)


def _joined(parts: Sequence[Block], values: Sequence[Tensor]) -> Tensor:
    """The values of all blocks' entries as they stand on the axis."""
    joined = torch.cat([*values])
    return joined if (index := order(parts)) is None else joined[index]
