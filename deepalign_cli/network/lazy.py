"""A mapping whose values are made when they are asked for, so that not all of them are in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Lazy(Mapping[Key, Value]):
    """From each key to `make(key)`; with `keeps` a value is made once, else every time it is asked for."""

    def __init__(self, keys: Iterable[Key], make: Callable[[Key], Value], *, keeps: bool = False) -> None:
        self._keys, self._make, self._keeps = dict.fromkeys(keys), make, keeps
        self._kept: dict[Key, Value] = {}

    def __getitem__(self, key: Key) -> Value:
        if key in self._kept:
            return self._kept[key]
        if key not in self._keys:
            raise KeyError(key)
        value = self._make(key)
        if self._keeps:
            self._kept[key] = value
        return value

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
