"""A checkpoint seen with other rows of some tensors: in another order, without some, or with zeros."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from threading import Event
from types import MappingProxyType
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.checkpoint import Checkpoint
from deepalign_cli.checkpoint.reading import torch_type

if TYPE_CHECKING:
    from jaxtyping import Int64
    from torch import Tensor

ABSENT = -1
_FEW_READS = 16  # of rows that lie together; for more of them a tensor is mapped into memory
_MAPPED = 2  # tensors at a time


class GatheredRows(Checkpoint):
    """`base`, with row `index[i]` at place i of the named axis of each tensor in `axes`.

    Where `index[i]` is `ABSENT` the row is zero. `index` is the same for all. `notes` come after the base's.
    """

    def __init__(
        self, base: Checkpoint, axes: Mapping[str, int], index: Int64[Tensor, " rows"],
        notes: Iterable[str] = (),
    ) -> None:  # fmt: skip
        self.__dict__.update(base.__dict__)
        infos = dict(base.infos)
        for name, axis in axes.items():
            shape = list(infos[name].shape)
            shape[axis] = len(index)
            infos[name] = replace(infos[name], shape=tuple(shape), strides=None)
        self.base, self.infos = base, MappingProxyType(infos)
        self.notes = (*base.notes, *notes)
        self._axes, self._index = dict(axes), index
        self._mapped: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        """The tensor with these rows, in memory of its own."""
        tensor = self.base[name]
        if name not in self._axes:
            return tensor
        return _gathered(tensor, self._axes[name], self._index)

    def flat(self, name: str, start: int, stop: int) -> Tensor:
        """Elements `start` to `stop` in row-major order: rows that lie together are read together."""
        if name not in self._axes:
            return self.base.flat(name, start, stop)
        if self._axes[name] != 0:
            return self[name].reshape(-1)[start:stop]
        import torch

        info = self.infos[name]
        width = math.prod(info.shape[1:])
        first, last = start // width, -(-stop // width)
        runs = list(_runs(self._index[first:last].tolist()))
        if len(runs) > _FEW_READS:
            rows = _gathered(self._whole(name), 0, self._index[first:last]).reshape(-1)
            return rows[start - first * width : stop - first * width]
        rows = torch.zeros((last - first) * width, dtype=torch_type(info))
        for place, source, count in runs:
            rows[place * width : (place + count) * width] = self.base.flat(
                name, source * width, (source + count) * width
            )
        return rows[start - first * width : stop - first * width]

    def _whole(self, name: str) -> Tensor:
        """All of a base's tensor; the last few are kept, for the parts of them that follow."""
        tensor = self._mapped.get(name)
        if tensor is None:
            for old in list(self._mapped)[: 1 - _MAPPED]:
                self._mapped.pop(old, None)  # another thread may have done so
            tensor = self._mapped[name] = self.base[name]
        return tensor

    def sha256(self, threads: int = 4, stop: Event | None = None) -> str:
        """That of the whole."""
        return self.base.sha256(threads, stop)


def _gathered(tensor: Tensor, axis: int, index: Tensor) -> Tensor:
    """The entries of an axis in this order, zeros where they are absent."""
    rows = tensor.index_select(axis, index.clamp(min=0))
    if bool((index < 0).any()):
        rows.index_fill_(axis, (index < 0).nonzero().flatten(), 0)
    return rows


def _runs(index: list[int]) -> Iterator[tuple[int, int, int]]:
    """Places and first rows of rows that follow one another, and how many they are; absent ones left out."""
    place = 0
    while place < len(index):
        source, count = index[place], 1
        while place + count < len(index) and index[place + count] == source + count and source >= 0:
            count += 1
        if source >= 0:
            yield place, source, count
        place += count
