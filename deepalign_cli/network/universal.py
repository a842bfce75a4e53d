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
from torch.nn.functional import linear

from deepalign_cli.integers import check_integers
from deepalign_cli.network.graph import Edge, Ends, Graph
from deepalign_cli.network.halved import halved, halved_module, reads_in_halves
from deepalign_cli.network.sketches import Sketches
from deepalign_cli.network.strengths import VECTOR_FEATURES, Matrix, Strengths, strengths
from deepalign_cli.network.waves import WAVES
from deepalign_cli.symmetry.symmetry import Weights

Features = Mapping[str, Float[Tensor, "batch n channels"]]
Units = Float[Tensor, "nets _ sketches channels"]  # many networks under a sketch each, or one under many
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
        check_integers(self, dict.fromkeys(vars(self), 1))


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
        return self.reader(graph, weights)(Sketches(seeds))

    def reader(self, graph: Graph, weights: Weights) -> Callable[[Sketches], Features]:
        """From sketches to features, with what does not depend on the sketches done once."""
        read = strengths(graph, weights)
        if reads_in_halves(graph, read):
            return partial(halved_module(self)._features, graph, halved(read))
        return partial(self._features, graph, read)

    def _features(self, graph: Graph, read: Strengths, sketches: Sketches) -> Features:
        places = places_of(graph, next(iter(read.drive.values())))
        state = self._enter(graph, read, sketches, places)
        for onward, back in zip(self.onward, self.back, strict=True):
            for update, levels, ends in (
                (onward, graph.levels(graph.depth), "target"),
                (back, graph.levels(graph.height), "source"),
            ):
                for level in levels:
                    state |= {g: update(graph, read, state, places, g, ends) for g in level}
        made = {g: self.leave(self.norm(state.pop(g))) for g in list(state)}
        return {g: x.movedim(2, 1).flatten(0, 1) for g, x in made.items()}

    def _enter(
        self, graph: Graph, strengths: Strengths, sketches: Sketches, places: Mapping[str, Tensor]
    ) -> dict[str, Units]:
        columns = self.config.sketch
        labels = _label_messages(graph, strengths, sketches, columns)
        parts = torch.split(self.enter.weight, [columns, columns, 1 + VECTOR_FEATURES, PLACE], dim=1)
        state = {}
        for g in graph.symmetry.sizes:
            own = torch.cat([strengths.importance[g].unsqueeze(-1), strengths.vectors[g]], dim=2)
            x = linear(own, parts[2]) + linear(places[g], parts[3], self.enter.bias)
            x = x.unsqueeze(2)
            for message, weight in zip(labels[g].values(), parts[:2], strict=True):
                x = x if message is None else x + linear(message, weight)
            state[g] = x.expand(-1, -1, 1 if len(x) > 1 else len(sketches), -1)
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
        self, graph: Graph, strengths: Strengths, state: Mapping[str, Units],
        places: Mapping[str, Tensor], group: str, ends: str,
    ) -> Units:  # fmt: skip
        h = state[group]
        normed, c = self.norm(h), h.shape[3]
        own, heard, mean, place = torch.split(self.first.weight, [c, c, c, PLACE], dim=1)
        of_all = linear(normed.mean(1, keepdim=True), mean, self.first.bias) + linear(places[group], place)
        x = linear(normed, own).add_(of_all)
        messages = [
            self._message(strengths, i, state, edge, ends)
            for i, edge in enumerate(graph.edges)
            if edge.ends is Ends.GROUPS and getattr(edge, ends) == group
        ]
        if messages:
            x.add_(linear(_mean_of(messages), heard))
        return self.second(nn.functional.gelu(x)).add_(h)  # type: ignore[no-any-return]

    def _message(
        self, strengths: Strengths, index: int, state: Mapping[str, Units], edge: Edge, ends: str
    ) -> Units:
        matrix = strengths.matrices[index]
        values = self.values[: matrix.w.shape[-1]]
        if ends == "target":
            x = self.norm(state[edge.source]).mul_(strengths.drive[edge.source].unsqueeze(2))
            return onward(matrix, x, values).mul_(matrix.down.unsqueeze(2))
        x = self.norm(state[edge.target]).mul_(matrix.pull.unsqueeze(2))
        return back(matrix, x, values).mul_(matrix.up.unsqueeze(2))


def onward(
    matrix: Matrix, x: Float[Tensor, "nets source sketches c"], values: Float[Tensor, "waves c d"]
) -> Float[Tensor, "nets target sketches d"]:
    """Sum over sources and waves of w[t, s, k] (x[s] values[k])."""
    return _multiply(matrix.w, _in_waves(x, values))


def back(
    matrix: Matrix, x: Float[Tensor, "nets target sketches c"], values: Float[Tensor, "waves c d"]
) -> Float[Tensor, "nets source sketches d"]:
    """Sum over targets and waves of w[t, s, k] (x[t] values[k])."""
    return _multiply(matrix.w.transpose(1, 2), _in_waves(x, values))


def _in_waves(
    x: Float[Tensor, "nets n sketches c"], values: Float[Tensor, "waves c d"]
) -> Float[Tensor, "nets n waves sketches d"]:
    if len(values) == 1:
        return (x @ values[0]).unsqueeze(2)
    return torch.einsum("bnqc,kcd->bnkqd", x, values)


def _multiply(
    w: Float[Tensor, "nets n m waves"], x: Float[Tensor, "_ m waves sketches d"]
) -> Float[Tensor, "nets n sketches d"]:
    """The sum over m and the waves: a single product, in which w is read once for all sketches."""
    w, x_flat = w.flatten(2), x.flatten(1, 2).flatten(2)
    one = len(w) == 1 and len(x_flat) == 1  # for which a plain product is faster than a stack of one
    product = (w[0] @ x_flat[0]).unsqueeze(0) if one else w @ x_flat
    return product.reshape(*product.shape[:2], *x.shape[3:])


def _mean_of(messages: list[Units]) -> Units:
    """The sum of messages, over the root of how many there are."""
    if len(messages) == 1:
        return messages[0]
    mean: Tensor = torch.stack(messages).sum(0) * len(messages) ** -0.5
    return mean


def _label_messages(
    graph: Graph, strengths: Strengths, sketches: Sketches, channels: int
) -> dict[str, dict[Ends, Units | None]]:
    """For every group the sketched labelled inputs and outputs, unit by unit of about unit variance."""
    messages: dict[str, dict[Ends, list[Tensor]]] = {
        g: {Ends.INPUTS: [], Ends.OUTPUTS: []} for g in graph.symmetry.sizes
    }
    for i, edge in enumerate(graph.edges):
        if edge.ends is Ends.GROUPS:
            continue
        matrix, reads = strengths.matrices[i], edge.ends is Ends.INPUTS
        w = matrix.w if reads else matrix.w.transpose(1, 2)
        z = sketches(w.shape[2], w.shape[3], channels, w)
        z = z.unsqueeze(0) if len(w) == 1 else z.movedim(2, 0).unsqueeze(3)
        messages[edge.target if reads else edge.source][edge.ends].append(
            _multiply(w, z).mul_((matrix.down if reads else matrix.up).unsqueeze(2))
        )
    return {
        g: {end: _mean_of(parts) if parts else None for end, parts in ends.items()}
        for g, ends in messages.items()
    }


def places_of(graph: Graph, like: Tensor) -> dict[str, Float[Tensor, " place"]]:
    """What a group knows of where it stands."""
    made = {}
    for g, n in graph.symmetry.sizes.items():
        down, up = graph.depth[g], graph.height[g]
        facts = [
            down / (down + up), 1 / down, 1 / up, float(g in graph.normed),
            len(graph.writers[g]) ** -0.5 if graph.writers[g] else 0.0, 10 / (10 + n**0.5),
        ]  # fmt: skip
        made[g] = torch.tensor(facts, dtype=like.dtype, device=like.device)
    return made
