"""A learned refiner: a few rounds in which predictions of neighbouring groups inform one another.

The encoder squeezes a unit into one vector before the networks meet. The refiner looks at the pair: with
the neighbours' units matched softly, the cosine of two units' incoming weights, and of their outgoing
ones, is what weight matching goes by. How far to trust each of these beside the prediction was searched
for, on the task's loss and not on the distance.

A group of n units needs matrices of n x n entries, 16 MB at 2048 units. Rounds are therefore not finished
one after the other: a group is refined as soon as its neighbours are, and a soft matching is forgotten once
all of its neighbours have used it. In a chain of layers seven are alive at a time, however deep it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.assignment import log_sinkhorn
from deepalign_cli.integers import check_integers
from deepalign_cli.network.graph import Edge, Ends, Graph
from deepalign_cli.network.halved import in_halves_if_wide
from deepalign_cli.network.similarity import spread
from deepalign_cli.network.strengths import Strengths
from deepalign_cli.symmetry.tensors import widened

Logits = Mapping[str, Float[Tensor, "_ _"]]
_START = (1.0, 0.5, 0.7, 0.7, 0.5)  # first and present logits, incoming and outgoing weights, soft matching
_LEAST = 1e-20  # smaller entries of a soft matching count as zero: products of denormal numbers are slow


@dataclass(frozen=True)
class RefinerConfig:
    """`rounds` of message exchange, and `iterations` of Sinkhorn a round."""

    rounds: int = 3
    iterations: int = 12

    def __post_init__(self) -> None:
        check_integers(self, {"rounds": 1, "iterations": 1})


class Refiner(nn.Module):
    """Logits -> better logits, per group; equivariant in both networks' units and in their exchange."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        self.rounds = nn.ModuleList(_Round() for _ in range(config.rounds))

    def forward(
        self, graph: Graph, a: Strengths, b: Strengths, logits: Logits
    ) -> Iterator[tuple[str, Float[Tensor, "_ _"]]]:
        """One group after another, its logits after all rounds, for a pair of networks (stacks of one).

        `logits` are asked for again when they are needed, and no gradient flows through what is made.
        """
        work = _Work(self, graph, (a, b), logits)
        for level in graph.levels(graph.depth):
            for group in level:
                yield group, work.logits(group, self.config.rounds)


class _Round(nn.Module):
    """The weights of the five features whose sum is a new logit."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Parameter(torch.tensor(_START))


class _Work:
    """Logits and matchings by group and round, each made when it is first needed."""

    def __init__(
        self, refiner: Refiner, graph: Graph, pair: tuple[Strengths, Strengths], first: Logits
    ) -> None:
        self._graph, self._pair, self._first = graph, pair, first
        self._iterations = refiner.config.iterations
        self._weights = [step.get_parameter("linear").tolist() for step in refiner.rounds]
        self._number = {id(edge): i for i, edge in enumerate(graph.edges)}
        self._neighbours = {
            g: {e.source for e in graph.writers[g]} | {e.target for e in graph.readers[g]} | {g}
            for g in graph.symmetry.sizes
        }
        self._alive: dict[tuple[str, int], Tensor] = {}
        self._used: dict[tuple[str, int], int] = {}

    @torch.no_grad()
    def logits(self, group: str, rounds: int) -> Float[Tensor, "n n"]:
        """A group's logits after so many rounds."""
        if not rounds:
            return self._first[group]
        own = self._matching(group, rounds - 1)
        first, present, onward, back, soft = self._weights[rounds - 1]
        total = spread(self._first[group]).mul_(first)
        total.add_(spread(own), alpha=present)  # the shifts of rows and columns by Sinkhorn do not count
        for weight, edges in (
            (onward, self._graph.writers[group]),
            (back, self._graph.readers[group]),
        ):
            if edges:
                total.add_(self._cosines(group, edges, rounds - 1), alpha=weight)
        total.add_(own.clamp(min=-20), alpha=soft / 5)
        self._forget(group, rounds - 1)
        return total

    def _matching(self, group: str, rounds: int) -> Float[Tensor, "n n"]:
        """The logarithm of a group's soft matching after so many rounds."""
        key = group, rounds
        if key not in self._alive:
            self._alive[key] = log_sinkhorn(self.logits(group, rounds), self._iterations)
        return self._alive[key]

    def _forget(self, group: str, rounds: int) -> None:
        """Drop what nobody needs any more, now that a group has been refined from its neighbours."""
        for other in self._neighbours[group] - {""}:
            key = other, rounds
            self._used[key] = self._used.get(key, 0) + 1
            if self._used[key] == len(self._neighbours[other] - {""}):
                self._alive.pop(key, None)

    def _cosines(self, group: str, edges: list[Edge], rounds: int) -> Float[Tensor, "n n"]:
        """How alike the weights on some edges are, mean over the edges, spread to variance one."""
        total: Tensor | None = None
        for edge in edges:
            cosine = self._cosine(edge, rounds, incoming=edges is self._graph.writers[group])
            total = cosine if total is None else total.add_(cosine)
        assert total is not None
        return spread(total)

    def _cosine(self, edge: Edge, rounds: int, *, incoming: bool) -> Float[Tensor, "n n"]:
        """The cosine of the units' weights at one end of an edge, the other end's units matched softly."""
        index, other = self._number[id(edge)], edge.source if incoming else edge.target
        (w, own_a, near_a), (v, own_b, near_b) = (
            _facing(read, index, edge, incoming=incoming) for read in self._pair
        )
        if edge.ends is Ends.GROUPS:
            soft = nn.functional.threshold(self._matching(other, rounds).exp(), _LEAST, 0.0, inplace=True)
            soft.mul_(near_a).mul_(near_b.T)
            v = _product(soft, v.movedim(1, 0).flatten(1)).reshape(len(soft), len(v), -1).movedim(0, 1)
            del soft
        return widened(_product(w.flatten(1), v.flatten(1).T)).mul_(own_a).mul_(own_b.T)


def _product(a: Float[Tensor, "n m"], b: Float[Tensor, "m k"]) -> Float[Tensor, "n k"]:
    """The product a b of wide matrices in bfloat16, which a cosine's few digits are within."""
    a = in_halves_if_wide(a)
    return a @ b.to(a.dtype)


def _facing(
    read: Strengths, index: int, edge: Edge, *, incoming: bool
) -> tuple[Float[Tensor, "n m waves"], Float[Tensor, "n 1"], Float[Tensor, "m 1"]]:
    """An edge's entries by the units of one end, with the scales of these and of the other end's units.

    With both scales every unit's entries have length one.
    """
    matrix = read.matrices[index]
    if not incoming:
        return matrix.w[0].transpose(0, 1), matrix.up[0], matrix.pull[0]
    drive = read.drive[edge.source][0] if edge.source else matrix.up[0]
    return matrix.w[0], matrix.down[0], drive
