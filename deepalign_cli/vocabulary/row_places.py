"""Which row of each network comes to each row of the merged one: by tokens, whatever their order in each.

Example:
    Two networks of three and four rows; A has a row of padding behind its two tokens.

    >>> a, b = {"x": 0, "y": 1}, {"z": 0, "y": 2, "x": 3}
    >>> row_places([a, b], [3, 4], union=False).rows
    ([0, 1, 2], [3, 2, -1])
    >>> placed = row_places([a, b], [3, 4], union=True)
    >>> placed.rows, placed.new, placed.shared
    (([0, 1, -1], [3, 2, 0]), {'z': 2}, ([0, 1], [3, 2]))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deepalign_cli.checkpoint.gathered_rows import ABSENT

_MOST_PADDING = 128  # rows are padded to a multiple of this at most


@dataclass(frozen=True)
class RowPlaces:
    """`rows` has, for each network, its row at each place of the output, `ABSENT` where it has none.

    `shared` are, for each network, its rows of the tokens that all have, in one order; `new` are the tokens
    of the output that A lacks, and their rows. `lost` is one of the output that no network has a row for.
    """

    rows: tuple[list[int], ...]
    shared: tuple[list[int], ...]
    new: Mapping[str, int]
    lost: str | None = None


def row_places(
    vocabularies: Sequence[Mapping[str, int]], sizes: Sequence[int], *, union: bool,
    order: Sequence[Sequence[str]] = (),
) -> RowPlaces:  # fmt: skip
    """The places for networks of so many rows, from the rows of their tokens, the first of them A.

    The output has A's rows in A's order, then with `union` the other tokens: network by network, in the
    `order` given for each, or else in that of their rows. New tokens take the place of A's padding; what is
    left of that stays last, and where it ends, it is repeated up to the multiple that A was padded to.
    """
    known = [
        {token: row for token, row in one.items() if row < size}
        for one, size in zip(vocabularies, sizes, strict=True)
    ]
    first, size = vocabularies[0], sizes[0]
    named = {row: token for token, row in first.items()}  # of two tokens the second: see Tokenizer.tokens
    orders = order or [sorted(one, key=one.__getitem__) for one in known]
    new: dict[str, int] = {}
    end = max(first.values(), default=-1) + 1  # of A's tokens; padding comes behind
    for one, tokens in zip(known[1:], orders[1:], strict=True) if union else ():
        for token in tokens:
            if token in one and token not in first:
                new.setdefault(token, end + len(new))
    rows = _count(size, end, len(new)) if union else size
    named |= {row: token for token, row in new.items()}
    own = [_of_first(row, size, end, end + len(new)) if union else row for row in range(rows)]
    others = [
        [one.get(named[row], ABSENT) if row in named else ABSENT for row in range(rows)] for one in known[1:]
    ]
    best = map(max, zip(own, *others, strict=True))
    lost = [named.get(row, f"row {row}") for row, most in enumerate(best) if most == ABSENT]
    shared = [token for _, token in sorted(named.items()) if all(token in one for one in known)]
    return RowPlaces(
        (own, *others), tuple([one[token] for token in shared] for one in known), new, next(iter(lost), None)
    )


def _count(size: int, end: int, new: int) -> int:
    """How many rows a union has."""
    if size <= end:
        return end + new
    multiple = min(size & -size, _MOST_PADDING)
    return max(size, -(-(end + new) // multiple) * multiple)


def _of_first(row: int, size: int, end: int, filled: int) -> int:
    """A's row at a place: its own, none for new tokens, and padding behind."""
    if row >= filled and end < size:
        return min(row, size - 1)
    return row if row < min(size, end) else ABSENT
