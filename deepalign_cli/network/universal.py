"""The universal encoder: one set of weights for every architecture that has a symmetry.

Instead of one layer a tensor, as in the paper's DWSNet, there are two maps a sweep, one for messages
onward and one for messages back, which every tensor of every network shares. A sweep goes through the
groups from the labelled inputs to the outputs and back again, so that news crosses the deepest network
in one sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.network.graph import Ends, Graph
from deepalign_cli.network.strengths import VECTOR_FEATURES, Matrix, Strengths, strengths
from deepalign_cli.network.waves import WAVES, sketch
from deepalign_cli.symmetry.symmetry import Weights

Features = Mapping[str, Float[Tensor, "batch n channels"]]
PLACE = 6  # facts of where a group stands


@dataclass(frozen=True)
class UniversalConfig:
    """The encoder's sizes: `channels` a unit, `sketch` columns of labels, `sweeps`, `out` features."""

    channels: int = 64
    hidden: int = 128
    sketch: int = 64
    sweeps: int = 3
    out: int = 128

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if type(size) is not int or size < 1:
                raise ValueError(f"{name} = {size!r} is no whole number from 1")


class Universal(nn.Module):
    """Weights -> per-unit features, equivariant: when a unit moves, its features move with it."""

    def __init__(self, config: UniversalConfig) -> None:
        super().__init__()
        c = config.channels
        self.config = config
        self.enter = nn.Linear(2 * config.sketch + 1 + VECTOR_FEATURES + PLACE, c)
        self.onward = nn.ModuleList(_Update(config) for _ in range(config.sweeps))
        self.back = nn.ModuleList(_Update(config) for _ in range(config.sweeps))
        self.norm = nn.LayerNorm(c)
        self.leave = nn.Linear(c, config.out)

    def forward(self, graph: Graph, weights: Weights, seeds: list[int]) -> Features:
        """The features of a stack of networks under one label sketch for each of `seeds`.

        Either one network and many seeds, or as many networks as seeds, or one seed for all; the batch
        axis of the result is the longer one.
        """
        return self.reader(graph, weights)(seeds)

    def reader(self, graph: Graph, weights: Weights) -> Callable[[list[int]], Features]:
        """From seeds to features, with what does not depend on the seeds done once."""
        return partial(self._features, graph, strengths(graph, weights))

    def _features(self, graph: Graph, read: Strengths, seeds: list[int]) -> Features:
        state = self._enter(graph, read, seeds)
        places = places_of(graph, next(iter(state.values())))
        for onward, back in zip(self.onward, self.back, strict=True):
            for update, levels, ends in (
                (onward, graph.levels(graph.depth), "target"),
                (back, graph.levels(graph.height), "source"),
            ):
                for level in levels:
                    state |= {g: update(graph, read, state, places, g, ends) for g in level}
        return {g: self.leave(self.norm(state.pop(g))) for g in list(state)}

    def _enter(self, graph: Graph, strengths: Strengths, seeds: list[int]) -> dict[str, Tensor]:
        batch = max(len(seeds), len(next(iter(strengths.matrices.values())).w))
        labels = _label_messages(graph, strengths, seeds, self.config.sketch)
        state = {}
        for g in graph.symmetry.sizes:
            own = torch.cat([strengths.importance[g].unsqueeze(-1), strengths.vectors[g]], dim=2)
            parts = [*labels[g], own.expand(batch, -1, -1)]
            x = torch.cat([p.expand(batch, -1, -1) for p in parts], dim=2)
            place = places_of(graph, x)[g].expand(batch, x.shape[1], -1)
            state[g] = self.enter(torch.cat([x, place], dim=2))
        return state


class _Update(nn.Module):
    """A residual step of a group's features from the messages of one direction."""

    def __init__(self, config: UniversalConfig) -> None:
        super().__init__()
        c = config.channels
        self.norm = nn.LayerNorm(c)
        self.values = nn.Parameter(torch.randn(WAVES, c, c) * c**-0.5)
        self.first = nn.Linear(3 * c + PLACE, config.hidden)
        self.second = nn.Linear(config.hidden, c)

    def forward(
        self, graph: Graph, strengths: Strengths, state: Mapping[str, Tensor],
        places: Mapping[str, Tensor], group: str, ends: str,
    ) -> Tensor:  # fmt: skip
        h = state[group]
        normed = self.norm(h)
        messages = []
        for i, edge in enumerate(graph.edges):
            if edge.ends is Ends.GROUPS and getattr(edge, ends) == group:
                other = edge.source if ends == "target" else edge.target
                messages.append(self._message(strengths, i, state[other], ends, other))
        news = torch.stack(messages).sum(0) * len(messages) ** -0.5 if messages else torch.zeros_like(h)
        parts = (normed, news, normed.mean(1, keepdim=True), places[group])  # the last two for all units
        columns = torch.split(self.first.weight, [part.shape[2] for part in parts], dim=1)
        x = self.first.bias + sum(p @ w.T for p, w in zip(parts[2:], columns[2:], strict=True))
        x = x + parts[0] @ columns[0].T + parts[1] @ columns[1].T
        made: Tensor = h + self.second(nn.functional.gelu(x))
        return made

    def _message(
        self, strengths: Strengths, index: int, h: Tensor, ends: str, other: str
    ) -> Float[Tensor, "batch n channels"]:
        matrix = strengths.matrices[index]
        waves = matrix.w.shape[-1]
        x = self.norm(h)
        if ends == "target":
            return matrix.down * onward(matrix, x * strengths.drive[other], self.values[:waves])
        return matrix.up * back(matrix, x * matrix.pull, self.values[:waves])


def onward(
    matrix: Matrix, x: Float[Tensor, "batch source c"], values: Float[Tensor, "waves c d"]
) -> Float[Tensor, "batch target d"]:
    """Sum over sources and waves of w[t, s, k] (x[s] values[k])."""
    b, t, s, k = matrix.w.shape
    spread = torch.einsum("bsc,kcd->bskd", x, values).reshape(len(x), s * k, -1)
    return _multiply(matrix.w.reshape(b, t, s * k), spread)


def back(
    matrix: Matrix, x: Float[Tensor, "batch target c"], values: Float[Tensor, "waves c d"]
) -> Float[Tensor, "batch source d"]:
    """Sum over targets and waves of w[t, s, k] (x[t] values[k])."""
    b, t, s, k = matrix.w.shape
    spread = torch.einsum("btc,kcd->btkd", x, values).reshape(len(x), t * k, -1)
    return _multiply(matrix.w.permute(0, 2, 1, 3).reshape(b, s, t * k), spread)


def _multiply(w: Float[Tensor, "nets n m"], x: Float[Tensor, "sketches m d"]) -> Float[Tensor, "batch n d"]:
    """The product w @ x, where either side may be one for all.

    One network under many sketches is a single product, in which w is read once.
    """
    if len(w) == 1 and len(x) > 1:
        b, m, d = x.shape
        return (w[0] @ x.movedim(0, 1).reshape(m, b * d)).reshape(-1, b, d).movedim(1, 0)
    return w @ x


def _label_messages(
    graph: Graph, strengths: Strengths, seeds: list[int], channels: int
) -> dict[str, list[Float[Tensor, "batch n channels"]]]:
    """For every group the sketched labelled inputs and outputs, unit by unit of about unit variance."""
    found: dict[str, dict[Ends, list[Tensor]]] = {
        g: {Ends.INPUTS: [], Ends.OUTPUTS: []} for g in graph.symmetry.sizes
    }
    for i, edge in enumerate(graph.edges):
        matrix = strengths.matrices[i]
        b, t, s, k = matrix.w.shape
        if edge.ends is Ends.INPUTS:
            z = torch.stack([sketch(seed, s, k, channels, matrix.w) for seed in seeds])
            sum_ = _multiply(matrix.w.reshape(b, t, s * k), z.reshape(len(seeds), s * k, -1))
            found[edge.target][edge.ends].append(matrix.down * sum_)
        elif edge.ends is Ends.OUTPUTS:
            z = torch.stack([sketch(seed, t, k, channels, matrix.w) for seed in seeds])
            turned = matrix.w.permute(0, 2, 1, 3).reshape(b, s, t * k)
            found[edge.source][edge.ends].append(
                matrix.up * _multiply(turned, z.reshape(len(seeds), t * k, -1))
            )
    messages = {}
    for g, ends in found.items():
        nothing = strengths.drive[g].new_zeros(1, 1, channels).expand(1, graph.symmetry.sizes[g], -1)
        messages[g] = [
            torch.stack(parts).sum(0) * len(parts) ** -0.5 if parts else nothing for parts in ends.values()
        ]
    return messages


def places_of(graph: Graph, like: Tensor) -> dict[str, Float[Tensor, "1 1 place"]]:
    """What a group knows of where it stands."""
    made = {}
    for g, n in graph.symmetry.sizes.items():
        down, up = graph.depth[g], graph.height[g]
        facts = [
            down / (down + up), 1 / down, 1 / up, float(g in graph.normed),
            len(graph.writers[g]) ** -0.5 if graph.writers[g] else 0.0, 10 / (10 + n**0.5),
        ]  # fmt: skip
        made[g] = torch.tensor(facts, dtype=like.dtype, device=like.device).reshape(1, 1, -1)
    return made
