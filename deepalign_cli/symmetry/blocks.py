"""An axis as strided blocks, so that whoever reads axes need not know of sums and parentheses.

Every path through an axis' sums is a block: a product of atoms of which each has a stride. On
`h*(q|k|v)` with 2 heads and 3, 3 and 4 places, a head takes 10 entries, and part k of head i at place j
stands at 3 + 10 i + j:

>>> from deepalign_cli.symmetry.axes import parse_axes
>>> for block in blocks(parse_axes("h*(q|k|v)")[0], {"h": 2, "q": 3, "k": 3, "v": 4}):
...     print(block.start, [(str(atom), size, stride) for atom, size, stride in block.factors])
0 [('h', 2, 10), ('q', 3, 1)]
3 [('h', 2, 10), ('k', 3, 1)]
6 [('h', 2, 10), ('v', 4, 1)]
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from deepalign_cli.symmetry.axes import Atom, Axis

if TYPE_CHECKING:
    from torch import Tensor

Strided = tuple[Atom, int, int]  # an atom, its size and its stride


@dataclass(frozen=True)
class Block:
    """The entries at start + sum_k i_k stride_k for places i_k of the factors, outer factors first."""

    start: int
    factors: tuple[Strided, ...]

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The extents of the factors."""
        return tuple(size for _, size, _ in self.factors)

    @cached_property
    def stop(self) -> int | None:
        """Where the block ends if its entries are neighbours, in order; None if they are not."""
        stride = 1
        for _, size, own in reversed(self.factors):
            if size > 1 and own != stride:
                return None
            stride *= size
        return self.start + stride

    def places(self) -> Tensor:
        """Where on the axis the entries stand: an index with one axis a factor."""
        import torch

        index = torch.tensor(self.start)
        for _, size, stride in self.factors:
            index = index.unsqueeze(-1) + stride * torch.arange(size)
        return index

    def cut(self, w: Tensor, axis: int) -> Tensor:
        """The block's entries along an axis of a tensor, side by side: a view where they are neighbours."""
        if self.stop is not None:
            return w.narrow(axis, self.start, self.stop - self.start)
        return w.index_select(axis, self.places().flatten().to(w.device))


def blocks(axis: Axis, sizes: Mapping[str, int]) -> tuple[Block, ...]:
    """The blocks of an axis, in the order in which its terms are written."""
    found, start = [], 0
    for term in axis.terms:
        parts, stride = [], 1
        for factor in reversed(term):
            parts.append(_stretched(factor, sizes, stride))
            stride *= extent(factor, sizes)
        for path in itertools.product(*reversed(parts)):
            first = start + sum(block.start for block in path)
            found.append(Block(first, tuple(factor for block in path for factor in block.factors)))
        start += stride
    return tuple(found)


def extent(factor: Atom | Axis, sizes: Mapping[str, int]) -> int:
    """How many entries an axis, or an atom, has."""
    if isinstance(factor, Axis):
        return sum(math.prod(extent(f, sizes) for f in term) for term in factor.terms)
    return sizes[factor.name] if factor.name else factor.size


def order(parts: Sequence[Block]) -> Tensor | None:
    """For each entry of an axis its place among the entries of all blocks, one after the other.

    None where that is the order in which they stand.
    """
    stops = [block.stop for block in parts]
    if all(block.start == stop for block, stop in zip(parts, [0, *stops], strict=False)):
        return None
    import torch

    return torch.cat([block.places().flatten() for block in parts]).argsort()


def _stretched(factor: Atom | Axis, sizes: Mapping[str, int], stride: int) -> tuple[Block, ...]:
    """The blocks of a factor whose places are `stride` entries apart."""
    if isinstance(factor, Atom):
        return (Block(0, ((factor, extent(factor, sizes), stride),)),)
    return tuple(
        Block(stride * block.start, tuple((a, n, stride * own) for a, n, own in block.factors))
        for block in blocks(factor, sizes)
    )
