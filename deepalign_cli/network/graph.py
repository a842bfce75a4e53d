"""The graph that messages travel on: groups as nodes, the tensors that tie them as edges.

Everything is derived from the symmetry: no tensor's name or storage order matters, but for the last word
of a vector's name (weight, bias, running_mean, running_var), which tells what it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from jaxtyping import Float
from torch import Tensor

from deepalign_cli.symmetry.axes import Atom
from deepalign_cli.symmetry.blocks import Block
from deepalign_cli.symmetry.symmetry import Symmetry


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor of an axis: a group (`group`) or, where that is empty, a labelled extent.

    `flips` says that the entries change sign with a unit, `exponent` with which power of its size they grow.
    """

    axis: int
    group: str
    size: int
    flips: bool = False
    exponent: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A part of a tensor in which every axis is a plain product: a block of each axis, and their factors."""

    name: str
    blocks: tuple[Block, ...]
    factors: tuple[Factor, ...]

    def block(self, w: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The cell of a stack of tensors, one axis a factor."""
        part = w
        for dim, block in enumerate(self.blocks, 1):
            part = block.cut(part, dim)
        return part.reshape(len(w), *(f.size for f in self.factors))


class Ends(StrEnum):
    """What an edge ties: two groups, a group to labelled inputs, or a group to labelled outputs."""

    GROUPS = "groups"
    INPUTS = "inputs"
    OUTPUTS = "outputs"


@dataclass(frozen=True, slots=True)
class Edge:
    """A cell read as a matrix from `source` to `target`, with `grid` labelled entries in each place.

    The target is the group on the earlier axis: PyTorch stores (out, in). On an edge to labels the group
    is the target of INPUTS and the source of OUTPUTS; the other end is a labelled axis of `labels` places.
    `order` brings the cell's factors to (target, source, grid, others); others are averaged over.
    """

    cell: Cell
    ends: Ends
    target: str
    source: str
    order: tuple[int, ...]
    sizes: tuple[int, int]
    grid: tuple[int, ...]

    @property
    def flips(self) -> tuple[bool, bool]:
        """Whether the entries change sign with the target's units, and with the source's."""
        if self.ends is Ends.GROUPS:
            target, source = (self.cell.factors[i].flips for i in self.order[:2])
            return target, source
        turned = any(f.flips for f in self.cell.factors)
        return (turned, False) if self.ends is Ends.INPUTS else (False, turned)

    @property
    def exponents(self) -> tuple[int, int]:
        """With which power of the sizes of the target's units, and of the source's, the entries grow."""
        if self.ends is Ends.GROUPS:
            target, source = (self.cell.factors[i].exponent for i in self.order[:2])
            return target, source
        power = sum(f.exponent for f in self.cell.factors)
        return (power, 0) if self.ends is Ends.INPUTS else (0, power)

    def matrix(self, w: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch target source grid"]:
        """The edge's entries in a stack of tensors."""
        block = self.cell.block(w).permute(0, *(1 + i for i in self.order))
        block = block.reshape(len(w), *self.sizes, math.prod(self.grid), -1)
        return block.mean(-1) if block.shape[-1] > 1 else block.squeeze(-1)


@dataclass(frozen=True, slots=True)
class Vector:
    """A tensor with one entry a unit: a bias, a norm's parameter or a statistic, by `role`."""

    cell: Cell
    group: str
    role: str


class Graph:
    """The edges and vectors of a symmetry, and each group's distance from the labelled ends."""

    def __init__(self, symmetry: Symmetry) -> None:
        self.symmetry = symmetry
        self.edges: list[Edge] = []
        self.vectors: list[Vector] = []
        for name in symmetry.spec.axes:
            for cell in cells(symmetry, name):
                self._read(cell)
        self.writers = {g: [e for e in self.edges if e.target == g] for g in symmetry.sizes}
        self.readers = {g: [e for e in self.edges if e.source == g] for g in symmetry.sizes}
        self.normed = {v.group for v in self.vectors if v.role == "running_var"}
        self.depth = self._distances(Ends.INPUTS)
        self.height = self._distances(Ends.OUTPUTS)

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that are read."""
        found = [e.cell.name for e in self.edges] + [v.cell.name for v in self.vectors]
        return tuple(dict.fromkeys(found))

    def levels(self, distance: Mapping[str, int]) -> list[list[str]]:
        """The groups by distance, nearest first."""
        return [[g for g, d in distance.items() if d == level] for level in sorted(set(distance.values()))]

    def _read(self, cell: Cell) -> None:
        places = [i for i, f in enumerate(cell.factors) if f.group]
        if len(places) == 1:
            self._read_single(cell, places[0])
        for first, second in itertools.combinations(places, 2):
            others = [i for i in places if i not in (first, second)]
            grid = [i for i, f in enumerate(cell.factors) if not f.group and f.size > 1]
            ones = [i for i, f in enumerate(cell.factors) if not f.group and f.size == 1]
            target, source = cell.factors[first], cell.factors[second]
            self.edges.append(
                Edge(
                    cell, Ends.GROUPS, target.group, source.group, (first, second, *grid, *ones, *others),
                    (target.size, source.size), _grid_of(cell, grid),
                )
            )  # fmt: skip

    def _read_single(self, cell: Cell, place: int) -> None:
        unit = cell.factors[place]
        labelled = [i for i, f in enumerate(cell.factors) if i != place]
        if math.prod(cell.factors[i].size for i in labelled) == 1 and len(cell.blocks) == 1:
            self.vectors.append(Vector(cell, unit.group, cell.name.rpartition(".")[2]))
            return
        # Trailing axes are kernel positions; the labels are whatever stands beside the group before them.
        grid = [i for i in labelled if cell.factors[i].axis >= 2]
        labels = [i for i in labelled if i not in grid]
        size = math.prod(cell.factors[i].size for i in labels)
        if unit.axis == 0:
            order = (place, *labels, *grid)
            edge = Edge(cell, Ends.INPUTS, unit.group, "", order, (unit.size, size), _grid_of(cell, grid))
        else:
            order = (*labels, place, *grid)
            edge = Edge(cell, Ends.OUTPUTS, "", unit.group, order, (size, unit.size), _grid_of(cell, grid))
        self.edges.append(edge)

    def _distances(self, ends: Ends) -> dict[str, int]:
        """Each group's number of edges from the labelled inputs, or to the labelled outputs."""
        near = {(e.target or e.source) for e in self.edges if e.ends is ends}
        steps = [
            (e.source, e.target) if ends is Ends.INPUTS else (e.target, e.source)
            for e in self.edges
            if e.ends is Ends.GROUPS
        ]
        distance: dict[str, int] = {}
        front, level = near or set(self.symmetry.sizes), 1
        while front:
            distance |= dict.fromkeys(front, level)
            front, level = {b for a, b in steps if a in front and b not in distance}, level + 1
        farthest = max(distance.values(), default=0) + 1
        return {g: distance.get(g, farthest) for g in self.symmetry.sizes}


def cells(symmetry: Symmetry, name: str) -> Iterator[Cell]:
    """The parts of a tensor between the borders of its concatenations."""
    for chosen in itertools.product(*symmetry.blocks[name]):
        factors = tuple(
            Factor(axis, atom.name, size, *_powers(atom, symmetry)) if atom.name else Factor(axis, "", size)
            for axis, block in enumerate(chosen)
            for atom, size, _ in block.factors
        )
        if any(f.group for f in factors):
            yield Cell(name, chosen, factors)


def _powers(atom: Atom, symmetry: Symmetry) -> tuple[bool, int]:
    """Whether the entries change sign with a unit of an atom's group, and with which power of its size."""
    kind = symmetry.kinds[atom.name]
    return kind.turns and symmetry.spec.flips(atom), atom.exponent * kind.stretches


def _grid_of(cell: Cell, places: Sequence[int]) -> tuple[int, ...]:
    """The extents of the labelled entries in each place; a lone square one is read as rows by columns."""
    extents = tuple(cell.factors[i].size for i in places)
    root = math.isqrt(extents[0]) if len(extents) == 1 else 0
    return (root, root) if root > 1 and root * root == extents[0] else extents
