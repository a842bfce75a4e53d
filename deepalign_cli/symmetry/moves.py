"""What an element does to one tensor where units only move or are multiplied, and to some rows of it alone.

Rows are indices of the first axis. A row of the result is made of one row of the tensor, so that tensors of
any size can be moved by pieces; what comes out is the same to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.tensors import narrowed, widened

_SAME_SIZE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class Move:
    """Which entry of the tensor `name` comes to each place of an axis, and what entries are multiplied by.

    Axes that are not named stay as they are. `added` is what phases add to a bias after that.

    >>> move = Move("w", {0: torch.tensor([2, 0, 1])}, {1: torch.tensor([1.0, 10.0])})
    >>> w = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> move(w)
    tensor([[ 5., 60.],
            [ 1., 20.],
            [ 3., 40.]])
    >>> move.rows(lambda: w, lambda start, stop: w[start:stop], 1, 3)
    tensor([[ 1., 20.],
            [ 3., 40.]])
    """

    name: str
    indices: Mapping[int, Int64[Tensor, " _"]]
    factors: Mapping[int, Tensor]
    added: Tensor | None = None

    @property
    def is_still(self) -> bool:
        """Whether the tensor stays as it is."""
        return not (self.indices or self.rounds)

    @property
    def rounds(self) -> bool:
        """Whether entries are multiplied or added to."""
        return bool(self.factors) or self.added is not None

    @property
    def gathers(self) -> bool:
        """Whether rows come from other places, so that some of them need the whole tensor."""
        return 0 in self.indices

    def __call__(self, w: Shaped[Tensor, " ..."]) -> Shaped[Tensor, " ..."]:
        """The tensor after the move, or itself. Raises SpecError where it cannot be multiplied."""
        for axis, index in self.indices.items():
            w = w.index_select(0, index.to(w.device)) if axis == 0 else _taken(w, axis, index)
        if not self.rounds:
            return w
        return scaled(w, self.factors, self.name, self.added)

    def rows(
        self, whole: Callable[[], Tensor], read: Callable[[int, int], Tensor], start: int, stop: int
    ) -> Shaped[Tensor, " ..."]:
        """Rows `start` to `stop` of the result; `read` returns such rows of the tensor, `whole` all of it."""
        indices, factors = dict(self.indices), dict(self.factors)
        index = indices.pop(0, None)
        w = read(start, stop) if index is None else whole().index_select(0, index[start:stop])
        if 0 in factors:
            factors[0] = factors[0][start:stop]
        added = None if self.added is None else self.added[start:stop]
        return Move(self.name, indices, factors, added)(w)


def _taken(w: Tensor, axis: int, index: Tensor) -> Tensor:
    """The entries of an axis behind the first: numpy takes them several times as fast as torch."""
    if w.device.type != "cpu" or w.requires_grad or w.itemsize not in _SAME_SIZE or w.is_complex():
        return w.index_select(axis, index.to(w.device))
    bits = w.contiguous().view(_SAME_SIZE[w.itemsize])
    return torch.from_numpy(bits.numpy().take(index.numpy(), axis=axis)).view(w.dtype)


def scaled(w: Tensor, factors: Mapping[int, Tensor], name: str, added: Tensor | None = None) -> Tensor:
    """The tensor with the entries of axes multiplied, and `added` to it, in float32 or wider; rounded once.

    Raises:
        SpecError: it does not hold floating-point numbers.
    """
    if not w.is_floating_point():
        message = f"'{name}' holds {w.dtype} and cannot be scaled."
        raise SpecError(message, "remove the +, - or ~ mark from this tensor in the spec.")
    wide = widened(w)
    for number, factor in factors.items():
        wide = wide * factor.to(wide).reshape([-1 if d == number else 1 for d in range(w.ndim)])
    return narrowed(wide if added is None else wide + added.to(wide), w.dtype, name)
