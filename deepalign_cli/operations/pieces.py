"""A tensor of several networks, read and moved by pieces that stay in the processor's cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.symmetry.moves import Move

ELEMENTS = 1 << 19  # of one piece, about
# Vector instructions take up to 64 entries at once and round what is left over as others do. With pieces of
# whole such lots the same entries are left over as in the whole tensor, and every number is the same.
_LOT = 64


@dataclass(frozen=True)
class MovedInput:
    """A tensor of one network, and what moves it."""

    checkpoint: Checkpoint
    name: str
    move: Move

    @cached_property
    def whole(self) -> Tensor:
        """All of it, mapped into memory."""
        return self.checkpoint[self.name]

    def rows(self, shape: Sequence[int], start: int, stop: int) -> Tensor:
        """Rows of the moved tensor, where it is seen in that shape."""
        width = math.prod(shape[1:])

        def read(start: int, stop: int) -> Tensor:
            flat = self.checkpoint.flat(self.name, start * width, stop * width)
            return flat.view(stop - start, *shape[1:])

        return self.move.rows(lambda: self.whole, read, start, stop)


class Pieces:
    """The pieces of one tensor: the same rows of every source; single entries where nothing moves.

    `by_rows` has rows in any case.
    """

    def __init__(self, sources: Sequence[MovedInput], shape: Sequence[int], *, by_rows: bool = False) -> None:
        still = not by_rows and all(source.move.is_still for source in sources)
        self.sources = sources
        self.shape = (math.prod(shape),) if still else tuple(shape)
        self.width = math.prod(self.shape[1:])

    def spans(self) -> Iterator[tuple[int, int]]:
        """First and last rows (exclusive) of all pieces, in order."""
        rows = self.shape[0]
        lot = _LOT // math.gcd(_LOT, self.width or 1)
        step = max(ELEMENTS // max(self.width, 1) // lot, 1) * lot
        return ((start, min(start + step, rows)) for start in range(0, rows, step))

    def tensors(self, start: int, stop: int) -> list[Tensor]:
        """These rows, of each source."""
        return [source.rows(self.shape, start, stop) for source in self.sources]
