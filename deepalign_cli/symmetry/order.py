"""The order of a plain chain's layers, from numbers in names and from shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from deepalign_cli.symmetry.tensor_names import pieces, stands_before

_BUDGET = 20_000


class SearchBudgetError(Exception):
    """There are too many possible orders to try."""


def chain_orders(
    paths: Sequence[str], feeds: Callable[[int, int], bool], *, contiguous: bool, limit: int = 2
) -> list[tuple[int, ...]]:
    """Up to `limit` orders of the layers in which each feeds the next and numbering is respected.

    `feeds(i, j)` says whether the output of layer i fits the input of layer j. With `contiguous`,
    layers whose names begin with the same words (`features.`, `classifier.`) stay together.

    Raises:
        SearchBudgetError: the search was given up.
    """
    return list(islice(_Search(paths, feeds, contiguous).orders(), limit))


class _Search:
    def __init__(self, paths: Sequence[str], feeds: Callable[[int, int], bool], contiguous: bool) -> None:
        self.count = len(paths)
        self.feeds, self.contiguous, self.left = feeds, contiguous, _BUDGET
        self.word = [pieces(path)[0][0] if path else "" for path in paths]
        self.before = [
            frozenset(j for j in range(self.count) if j != i and stands_before(paths[j], paths[i]))
            for i in range(self.count)
        ]
        self.natural = sorted(range(self.count), key=lambda i: pieces(paths[i]))

    def orders(self) -> Iterator[tuple[int, ...]]:
        """All orders, by depth-first search without recursion."""
        stack: list[tuple[int, ...]] = [()]
        while stack:
            chain = stack.pop()
            self.left -= 1
            if self.left < 0:
                raise SearchBudgetError
            if len(chain) == self.count:
                yield chain
                continue
            stack.extend((*chain, i) for i in reversed(self.natural) if self._may_follow(chain, i))

    def _may_follow(self, chain: tuple[int, ...], i: int) -> bool:
        done = set(chain)
        if i in done or not self.before[i] <= done:
            return False
        if not chain:
            return True
        word = self.word[chain[-1]]
        if (
            self.contiguous
            and self.word[i] != word
            and self.word.count(word) > sum(self.word[j] == word for j in chain)
        ):
            return False
        return self.feeds(chain[-1], i)
