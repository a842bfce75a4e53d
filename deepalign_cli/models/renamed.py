"""Tensors under other names, each read when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor


class Renamed(Mapping[str, Tensor]):
    """`weights` by other names; `names` has the name in `weights` of each."""

    def __init__(self, weights: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self._weights, self._names = weights, names

    def __getitem__(self, name: str) -> Tensor:
        return self._weights[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
