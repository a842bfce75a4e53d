"""A network after an element has acted, tensor by tensor, without a copy of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights


class Acted(Mapping[str, Tensor]):
    """`weights` as seen after `g`; each tensor is made when it is asked for.

    `names` has the symmetry's name of each, where it has another there.
    """

    def __init__(
        self, symmetry: Symmetry, g: Element, weights: Weights, names: Mapping[str, str] | None = None
    ) -> None:
        self._symmetry, self._g, self._weights, self._names = symmetry, g, weights, names or {}

    def __getitem__(self, name: str) -> Tensor:
        return self._symmetry.act(self._g, self._names.get(name, name), self._weights[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)
