"""A learned refiner: a few rounds in which predictions of neighbouring groups inform one another.

The encoder squeezes a unit into one vector before the networks meet. The refiner looks at the pair: with
the neighbours' units matched softly, the cosine of two units' incoming weights, and of their outgoing
ones, is what weight matching goes by. How far to trust each of these beside the prediction is learned, on
the task's loss and not on the distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.assignment import log_sinkhorn
from deepalign_cli.network.graph import Ends, Graph
from deepalign_cli.network.strengths import Strengths
from deepalign_cli.network.universal import PLACE, places_of

Logits = Mapping[str, Float[Tensor, "batch _ _"]]
_FEATURES = 5  # first and present logits, incoming and outgoing weights, soft permutation
_START = (1.0, 0.5, 0.7, 0.7, 0.5)
_CONTEXT = 3


@dataclass(frozen=True)
class RefinerConfig:
    """`rounds` of message exchange, `iterations` of Sinkhorn a round, and `hidden` channels an entry.

    Without hidden channels a new logit is a weighted sum of the five features, and the weights are all
    that there is to learn.
    """

    rounds: int = 3
    hidden: int = 16
    iterations: int = 12

    def __post_init__(self) -> None:
        for name, least in (("rounds", 1), ("hidden", 0), ("iterations", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} = {value!r} is not a whole number of at least {least}")


class Refiner(nn.Module):
    """Logits -> better logits, per group; equivariant in both networks' units and in their exchange."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        self.rounds = nn.ModuleList(_Round(config) for _ in range(config.rounds))

    def forward(self, graph: Graph, a: Strengths, b: Strengths, logits: Logits) -> Logits:
        """The logits of a stack of pairs after all rounds."""
        pairs = _Pairs(graph, a, b)
        first, current = logits, dict(logits)
        for step in self.rounds:
            logs = {g: log_sinkhorn(x, self.config.iterations) for g, x in current.items()}
            soft = {g: x.exp() for g, x in logs.items()}
            confidence = {g: (p.amax(2) + p.amax(1)).mean(1) / 2 for g, p in soft.items()}
            current = {
                g: step(
                    (
                        _spread(first[g]),
                        _spread(current[g]),
                        pairs.onward(g, soft),
                        pairs.back(g, soft),
                        logs[g].clamp(min=-20) / 5,
                    ),
                    pairs.context(g, confidence),
                )
                for g in current
            }
        return current


class _Round(nn.Module):
    """One entry's new logit from its features and its group's context."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        context = _CONTEXT + PLACE
        self.linear = nn.Parameter(torch.tensor(_START))
        self.trust = nn.Linear(context, _FEATURES)
        nn.init.zeros_(self.trust.weight)
        nn.init.zeros_(self.trust.bias)
        self.hidden = config.hidden
        if config.hidden:
            self.first = nn.Linear(_FEATURES, config.hidden)
            self.shift = nn.Linear(context, config.hidden, bias=False)
            self.second = nn.Linear(config.hidden, 1, bias=False)
            nn.init.zeros_(self.second.weight)

    def forward(
        self, x: Sequence[Float[Tensor, "batch n n"]], context: Float[Tensor, "batch context"]
    ) -> Float[Tensor, "batch n n"]:
        weights = (self.linear + self.trust(context)).unbind(1)
        made = torch.stack([f * w[:, None, None] for f, w in zip(x, weights, strict=True)]).sum(0)
        if self.hidden:
            shift = self.shift(context)[:, None, None]
            hidden = nn.functional.gelu(self.first(torch.stack(tuple(x), dim=-1)) + shift)
            made = made + self.second(hidden).squeeze(-1)
        return made


class _Pairs:
    """The cosines of two networks' units, given soft matchings of their neighbours."""

    def __init__(self, graph: Graph, a: Strengths, b: Strengths) -> None:
        self.graph = graph
        self.rows = {i: (_rows(i, graph, a), _rows(i, graph, b)) for i in a.matrices}
        self.columns = {i: (_columns(i, a), _columns(i, b)) for i in a.matrices}
        self.number = {id(edge): i for i, edge in enumerate(graph.edges)}
        sample = next(iter(a.matrices.values())).w
        self.places = places_of(graph, sample)

    def onward(self, group: str, soft: Logits) -> Float[Tensor, "batch n n"]:
        """How alike the incoming weights are, mean over the tensors, spread to variance one."""
        found = []
        for edge in self.graph.writers[group]:
            a, b = self.rows[self.number[id(edge)]]
            found.append(_cosine(a, b, soft.get(edge.source)))
        return self._mean(found, soft[group])

    def back(self, group: str, soft: Logits) -> Float[Tensor, "batch n n"]:
        """How alike the outgoing weights are, mean over the tensors, spread to variance one."""
        found = []
        for edge in self.graph.readers[group]:
            a, b = self.columns[self.number[id(edge)]]
            found.append(_cosine(a, b, soft.get(edge.target)))
        return self._mean(found, soft[group])

    def context(self, group: str, confidence: Mapping[str, Tensor]) -> Float[Tensor, "batch context"]:
        """Where the group stands, and how sure it, its writers and its readers are."""
        own = confidence[group]
        before = [confidence[e.source] for e in self.graph.writers[group] if e.ends is Ends.GROUPS]
        after = [confidence[e.target] for e in self.graph.readers[group] if e.ends is Ends.GROUPS]
        sure = [own, *(torch.stack(x).mean(0) if x else torch.ones_like(own) for x in (before, after))]
        place = self.places[group].reshape(1, -1).expand(len(own), -1)
        return torch.cat([torch.stack(sure, dim=1), place], dim=1)

    @staticmethod
    def _mean(found: list[Tensor], like: Tensor) -> Tensor:
        return _spread(torch.stack(found).mean(0)) if found else torch.zeros_like(like)


def _rows(index: int, graph: Graph, read: Strengths) -> Float[Tensor, "batch target source waves"]:
    """Incoming weights, every target's of length one."""
    matrix, edge = read.matrices[index], graph.edges[index]
    w = matrix.w * matrix.down.unsqueeze(3)
    return w * read.drive[edge.source].unsqueeze(1) if edge.ends is not Ends.INPUTS else w


def _columns(index: int, read: Strengths) -> Float[Tensor, "batch source target waves"]:
    """Outgoing weights, every source's of length one."""
    matrix = read.matrices[index]
    return (matrix.w * matrix.pull.unsqueeze(3)).transpose(1, 2) * matrix.up.unsqueeze(3)


def _cosine(
    a: Float[Tensor, "batch n m waves"], b: Float[Tensor, "batch n m waves"],
    matching: Float[Tensor, "batch m m"] | None,
) -> Float[Tensor, "batch n n"]:  # fmt: skip
    """A P b^T over the last two axes."""
    if matching is not None:
        moved = matching @ b.transpose(1, 2).flatten(2)
        b = moved.reshape(b.shape[0], b.shape[2], b.shape[1], b.shape[3]).transpose(1, 2)
    return a.flatten(2) @ b.flatten(2).transpose(1, 2)


def _spread(x: Float[Tensor, "batch n n"]) -> Float[Tensor, "batch n n"]:
    """Without the rows' and columns' means, of variance one."""
    x = x - x.mean(1, keepdim=True) - x.mean(2, keepdim=True) + x.mean((1, 2), keepdim=True)
    return x / (x.square().mean((1, 2), keepdim=True) + 1e-12).sqrt()
