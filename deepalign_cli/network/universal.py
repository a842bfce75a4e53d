"""The universal encoder: one set of weights for every architecture that has a symmetry.

Instead of one layer a tensor, as in the paper's DWSNet, there are two maps a sweep, one for messages
onward and one for messages back, which every tensor of every network shares. A sweep goes through the
groups from the labelled inputs to the outputs and back again, so that news crosses the deepest network
in one sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from deepalign_cli.integers import check_integers
from deepalign_cli.network.folded import FoldedLinear, Normed, Units, behind, centred, normed
from deepalign_cli.network.graph import Edge, Ends, Graph
from deepalign_cli.network.halved import halved, reads_in_halves
from deepalign_cli.network.sketches import Sketches
from deepalign_cli.network.strengths import VECTOR_FEATURES, Matrix, Strengths, strengths
from deepalign_cli.network.waves import WAVES
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
        dtype = next(iter(read.drive.values())).dtype
        if reads_in_halves(graph, read):
            read, dtype = halved(read), torch.bfloat16
        return partial(self._features, graph, read, self._folded(dtype))

    def _folded(self, dtype: torch.dtype) -> _Folded:
        columns = self.config.sketch
        weight, bias = centred(self.enter.weight, self.enter.bias)
        parts = torch.split(weight.to(dtype), [columns, columns, 1 + VECTOR_FEATURES, PLACE], dim=1)
        onward, back = (
            [update.folded(dtype) for update in updates if isinstance(update, _Update)]
            for updates in (self.onward, self.back)
        )
        leave = behind(self.norm, self.leave.weight, self.leave.bias).to(dtype)
        return _Folded(parts, bias.to(dtype), list(zip(onward, back, strict=True)), leave)

    def _features(self, graph: Graph, read: Strengths, folded: _Folded, sketches: Sketches) -> Features:
        places = places_of(graph, next(iter(read.drive.values())))
        made = _entered(graph, read, sketches, places, folded)
        state = {g: normed(x) for g, x in made.items()}
        for onward, back in folded.rounds:
            for update, levels, ends in (
                (onward, graph.levels(graph.depth), "target"),
                (back, graph.levels(graph.height), "source"),
            ):
                for level in levels:
                    state |= {g: update(graph, read, state, places[g], g, ends) for g in level}
        left = {g: folded.leave(state.pop(g).normed) for g in list(state)}
        return {g: x.movedim(2, 1).flatten(0, 1) for g, x in left.items()}


class _Update(nn.Module):
    """The parameters of a residual step of a group's features from the messages of one direction."""

    def __init__(self, config: UniversalConfig) -> None:
        super().__init__()
        c = config.channels
        self.norm = nn.LayerNorm(c)
        self.values = nn.Parameter(torch.randn(WAVES, c, c) * c**-0.5)
        self.first = nn.Linear(3 * c + PLACE, config.hidden)
        self.second = nn.Linear(config.hidden, c)

    def folded(self, dtype: torch.dtype) -> _FoldedUpdate:
        """The step in a type, with its norm in its matrices."""
        c = self.second.out_features
        own, heard, mean, place = torch.split(self.first.weight, [c, c, c, PLACE], dim=1)
        second, bias = centred(self.second.weight, self.second.bias)
        return _FoldedUpdate(
            own=behind(self.norm, own).to(dtype),
            mean=behind(self.norm, mean, self.first.bias).to(dtype),
            values=behind(self.norm, self.values.mT).to(dtype),
            heard=FoldedLinear(heard.T, torch.zeros_like(self.first.bias)).to(dtype),
            place=place.to(dtype),
            second=FoldedLinear(second.T, bias).to(dtype),
        )


@dataclass(frozen=True)
class _FoldedUpdate:
    """The step itself."""

    own: FoldedLinear
    mean: FoldedLinear
    values: FoldedLinear
    heard: FoldedLinear
    place: Tensor
    second: FoldedLinear

    def __call__(
        self, graph: Graph, strengths: Strengths, state: Mapping[str, Normed], place: Tensor, group: str,
        ends: str,
    ) -> Normed:  # fmt: skip
        now = state[group]
        of_all = self.mean(now.normed.mean(1, keepdim=True)) + (linear(place, self.place) + self.own.bias)
        x = self.own.added_to(of_all.expand(-1, now.h.shape[1], -1, -1).clone(), now.normed)
        messages = [
            self._message(strengths, i, state, edge, ends)
            for i, edge in enumerate(graph.edges)
            if edge.ends is Ends.GROUPS and getattr(edge, ends) == group
        ]
        if messages:
            x = self.heard.added_to(x, _mean_of(messages))
        return normed(self.second.added_to(now.h + self.second.bias, gelu(x)))

    def _message(
        self, strengths: Strengths, index: int, state: Mapping[str, Normed], edge: Edge, ends: str
    ) -> Units:
        matrix = strengths.matrices[index]
        if ends == "target":
            x, scale, made = state[edge.source].normed, strengths.drive[edge.source], matrix.down
            return onward(matrix, x, self.values, scale).mul_(made.unsqueeze(2))
        x, scale, made = state[edge.target].normed, matrix.pull, matrix.up
        return back(matrix, x, self.values, scale).mul_(made.unsqueeze(2))


@dataclass(frozen=True)
class _Folded:
    """All layers in one type: the parts of the first, the updates of every sweep, and the last."""

    enter: Sequence[Tensor]
    bias: Tensor
    rounds: list[tuple[_FoldedUpdate, _FoldedUpdate]]
    leave: FoldedLinear


def _entered(
    graph: Graph, strengths: Strengths, sketches: Sketches, places: Mapping[str, Tensor], folded: _Folded
) -> dict[str, Units]:
    """Every unit's first features: what it reads and writes of the labels, its own strength, its place."""
    inputs, outputs, of_own, of_place = folded.enter
    labels = _label_messages(graph, strengths, sketches, inputs.shape[1])
    state = {}
    for g in graph.symmetry.sizes:
        own = torch.cat([strengths.importance[g].unsqueeze(-1), strengths.vectors[g]], dim=2)
        x = linear(own, of_own) + linear(places[g], of_place, folded.bias)
        x = x.unsqueeze(2)
        for message, weight in zip(labels[g].values(), (inputs, outputs), strict=True):
            x = x if message is None else x + linear(message, weight)
        state[g] = x.expand(-1, -1, 1 if len(x) > 1 else len(sketches), -1)
    return state


def onward(
    matrix: Matrix, x: Float[Tensor, "nets source sketches c"], values: FoldedLinear,
    drive: Float[Tensor, "nets source 1"],
) -> Float[Tensor, "nets target sketches d"]:  # fmt: skip
    """Sum over sources and waves of w[t, s, k] drive[s] values[k](x[s])."""
    w = matrix.w
    return _multiply(w, _in_waves(x, values, w.shape[3], drive))


def back(
    matrix: Matrix, x: Float[Tensor, "nets target sketches c"], values: FoldedLinear,
    pull: Float[Tensor, "nets target 1"],
) -> Float[Tensor, "nets source sketches d"]:  # fmt: skip
    """Sum over targets and waves of w[t, s, k] pull[t] values[k](x[t])."""
    w = matrix.w
    return _multiply(w.transpose(1, 2), _in_waves(x, values, w.shape[3], pull))


def _in_waves(
    x: Float[Tensor, "nets n sketches c"], values: FoldedLinear, waves: int, scale: Float[Tensor, "nets n 1"]
) -> Float[Tensor, "nets n waves sketches d"]:
    scale = scale.unsqueeze(2)
    if waves == 1:
        return FoldedLinear(values.weight[0], values.bias[0])(x).mul_(scale).unsqueeze(2)
    made = torch.einsum("bnqc,kcd->bnkqd", x, values.weight[:waves])
    return made.add_(values.bias[:waves].unsqueeze(1)).mul_(scale.unsqueeze(2))


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
