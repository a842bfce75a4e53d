"""Rows that only some networks have, in tensors that are combined: lent to the others, or taken as they are.

A combiner works on whole tensors, so a network that lacks a row is lent one: the first network's, or else
the mean of those that have it, as in mergekit. A row that one network alone has is that very row afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from deepalign_cli.symmetry.tensors import widened

Part = Shaped[Tensor, " ..."]


@dataclass(frozen=True)
class TokenRows:
    """Where rows come from in tensors whose tokens lie on these `axes`.

    `rows` are the networks' own; where one is below 0, the network has none and holds zeros. With
    `first_lends` the first network's row is lent where it has one; otherwise the mean always is.
    """

    axes: Mapping[str, int]
    rows: Int64[Tensor, "networks rows"]
    first_lends: bool

    @cached_property
    def has(self) -> Bool[Tensor, "networks rows"]:
        """Which network has which row."""
        return self.rows >= 0

    def __contains__(self, name: object) -> bool:
        return name in self.axes

    def lent(self, name: str, parts: Sequence[Part], start: int = 0) -> list[Part]:
        """Rows from `start` on of each network, in one network's units, none absent; widened if one was."""
        rows = [w.movedim(self.axes[name], 0) for w in parts]
        has = self.has[:, start : start + len(rows[0])]
        if bool(has.all()):
            return list(parts)
        wide = [widened(w) for w in rows]
        mean = sum(wide) / _column(has.sum(0).clamp(min=1), wide[0])
        loan = torch.where(_column(has[0], mean), wide[0], mean) if self.first_lends else mean
        full = (torch.where(_column(own, w), w, loan) for own, w in zip(has, wide, strict=True))
        return [w.movedim(0, self.axes[name]) for w in full]

    def restored(self, name: str, made: Part, parts: Sequence[Part], start: int = 0) -> Part:
        """The combined rows, with those that one network alone has as they are there."""
        axis = self.axes[name]
        has = self.has[:, start : start + made.shape[axis]]
        alone = has.sum(0) == 1
        if not bool(alone.any()):
            return made
        rows = made.movedim(axis, 0)
        for own, part in zip(has, parts, strict=True):
            rows = torch.where(_column(alone & own, rows), part.movedim(axis, 0), rows)
        return rows.movedim(0, axis)


def _column(values: Shaped[Tensor, " rows"], like: Shaped[Tensor, "rows ..."]) -> Shaped[Tensor, "rows ..."]:
    """A value for each row, to stand beside the rows."""
    return values.reshape(-1, *[1] * (like.ndim - 1))
