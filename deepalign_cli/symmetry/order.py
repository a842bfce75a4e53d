"""The order of a plain chain's layers: what numbers in names and shapes say, and whether it is all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from deepalign_cli.symmetry.tensor_names import natural_key, pieces, stands_before

_BUDGET = 20_000


class SearchBudgetError(Exception):
    """So many orders are possible that they were not counted."""


def chain_orders(
    paths: Sequence[str], feeds: Callable[[int, int], bool], *, contiguous: bool, limit: int = 2
) -> list[tuple[int, ...]]:
    """Up to `limit` orders of the layers in which each feeds the next and numbering is respected.

    `feeds(i, j)` says whether the output of layer i fits the input of layer j. With `contiguous`,
    layers whose names begin with the same words (`features.`, `classifier.`) stay together.

    Raises:
        SearchBudgetError: the search was given up.
    """
    search = _Search(paths, feeds, contiguous)
    found: list[tuple[int, ...]] = []
    for order in search.extend(()):
        found.append(order)
        if len(found) == limit:
            break
    return found


class _Search:
    def __init__(self, paths: Sequence[str], feeds: Callable[[int, int], bool], contiguous: bool) -> None:
        self.count = len(paths)
        self.feeds, self.contiguous, self.left = feeds, contiguous, _BUDGET
        self.word = [pieces(path)[0][0] if path else "" for path in paths]
        self.before = [
            frozenset(j for j in range(self.count) if j != i and stands_before(paths[j], paths[i]))
            for i in range(self.count)
        ]
        self.natural = sorted(range(self.count), key=lambda i: natural_key(paths[i]))

    def extend(self, chain: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        """All orders that begin with `chain`, by depth-first search without recursion."""
        stack = [chain]
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
        if self.contiguous and self.word[i] != self.word[chain[-1]]:
            word = self.word[chain[-1]]
            if any(self.word[j] == word and j not in done for j in range(self.count)):
                return False
        return self.feeds(chain[-1], i)
