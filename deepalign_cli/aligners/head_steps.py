"""The best move of heads: which head is which, and how the dimensions inside each turn.

For matched heads h and h' the best rotation of the dimensions of group e gains max_Q <Q, C_e[h, h']>, the
sum of the singular values where Q may be any orthogonal matrix, so the assignment of heads is solved on the
sum of these over the groups inside (Theus et al. 2025). Either alone would be stuck: heads cannot be told
apart before their dimensions are turned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float64
from torch import Tensor

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.assignment import assign
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import ORTHOGONAL, Kind
from deepalign_cli.symmetry.symmetry import Occurrence
from deepalign_cli.symmetry.turns import Turn

Blocks = Float64[Tensor, "m m n n"]


def best_heads(
    problem: Gains, heads: str, inner: Sequence[str], g: Element, names: set[str] | None = None
) -> tuple[Element, float]:
    """The best relative move of a group of heads and of the groups inside, and by how much it gains.

    `names` are the tensors to look at; by default all.
    """
    symmetry = problem.symmetry
    size = symmetry.sizes[heads]
    value = torch.zeros(size, size, dtype=torch.float64)
    before, blocks = 0.0, {}
    for group in inner:
        blocks[group] = block_gains(problem, heads, group, g, names)
        value += _best(symmetry.kinds[group], blocks[group])
        before += float(blocks[group].diagonal(dim1=0, dim2=1).diagonal(dim1=0, dim2=1).sum())
    plain = _plain_gains(problem, heads, inner, g, names)
    value, before = value + plain, before + float(plain.trace())
    perm = assign(value)
    units = torch.arange(size)
    turns, after = {}, float(plain[units, perm].sum())
    for group, c in blocks.items():
        q = symmetry.kinds[group].nearest(c[units, perm])
        turns[group], after = Turn(q, heads), after + float((q * c[units, perm]).sum())
    return Element({heads: perm}, turn=turns), after - before


def block_gains(problem: Gains, heads: str, group: str, g: Element, names: set[str] | None = None) -> Blocks:
    """C[h, h', i, j]: what matching dimension i of head h with dimension j of head h' gains."""
    symmetry = problem.symmetry
    m, n = symmetry.sizes[heads], symmetry.sizes[group]
    total = torch.zeros(m * n, m * n, dtype=torch.float64)
    for name in problem.names[group]:
        if names is not None and name not in names:
            continue
        a, b = problem.acted(name, g)
        for place in symmetry.occurrences[group]:
            if place.name == name:
                total += (_rows(place, heads, a) @ _rows(place, heads, b).T).double()
    return total.reshape(m, n, m, n).movedim(1, 2)


def own_gains(
    problem: Gains, group: str, g: Element, names: Iterable[str] | None = None
) -> Float64[Tensor, "m n n"]:
    """C[h, i, j]: what exchanging the units of a group that turns gains, in every unit of the one around it.

    Where there is none around it, that is one matrix.
    """
    symmetry = problem.symmetry
    outer, n = symmetry.within[group], symmetry.sizes[group]
    if not outer:
        return problem.partial(group, g, names or problem.names[group]).plain.double()[None]
    total = torch.zeros(symmetry.sizes[outer], n, n, dtype=torch.float64)
    for name in problem.names[group] if names is None else names:
        pair = problem.acted(name, g)
        for place in symmetry.occurrences[group]:
            if place.name == name:
                a, b = (_rows(place, outer, w).reshape(len(total), n, -1) for w in pair)
                total += (a @ b.mT).double()
    return total


def _plain_gains(
    problem: Gains, heads: str, inner: Sequence[str], g: Element, names: set[str] | None
) -> Float64[Tensor, "m m"]:
    """What matching heads gains where no group inside them turns: elsewhere, or beside these groups."""
    symmetry = problem.symmetry
    total = torch.zeros(symmetry.sizes[heads], symmetry.sizes[heads], dtype=torch.float64)
    for place in symmetry.occurrences[heads]:
        looked_at = place.name in problem.names[heads] and (names is None or place.name in names)
        if looked_at and not {*inner} & {atom.name for atom, _, _ in place.block.factors}:
            a, b = problem.acted(place.name, g)
            total += (symmetry.unfold(place, a) @ symmetry.unfold(place, b).T).double()
    return total


def _rows(place: Occurrence, heads: str, w: Tensor) -> Tensor:
    """A tensor's entries by head and dimension: one row for each dimension of each head."""
    part = place.block.cut(w.movedim(place.axis, 0), 0)
    x = part.reshape(*place.block.sizes, -1)
    outer = next(i for i, (atom, _, _) in enumerate(place.block.factors) if atom.name == heads)
    x = x.movedim((outer, place.number), (0, 1))
    return x.reshape(x.shape[0] * x.shape[1], -1)


def _best(kind: Kind, blocks: Blocks) -> Float64[Tensor, "m m"]:
    """The largest gain of every pair of heads by a rotation of the kind.

    Singular values are the roots of the eigenvalues of C C^T, which take a thirtieth of the time; what
    rounding this costs is no matter where pairs are compared.
    """
    if kind is ORTHOGONAL:
        values: Tensor = torch.linalg.eigvalsh(blocks @ blocks.mT)
        return values.clamp(min=0).sqrt().sum(-1)
    flat = blocks.flatten(0, 1)
    return (kind.nearest(flat) * flat).sum((1, 2)).reshape(blocks.shape[:2])
