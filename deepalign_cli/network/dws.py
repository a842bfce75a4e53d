"""The paper's encoder for chains of linear layers: one set of weights for one architecture.

DWSNet (Navon et al., ICML 2023; as used by Deep-Align, ICML 2024): features on the entries of every weight
and bias, and linear equivariant maps between neighbouring tensors, with a ReLU between. But for the map of
an entry onto itself, all of them go by way of a group's units, so a layer is written here by group: what
its units know from the tensors beside it (`_contexts`) is mapped onto the tensors beside it.

Other than in the authors' code, labelled inputs and outputs are never pooled: their places are channels.
Pooling is by the mean (theirs by the maximum), and in BatchNorm's place every unit's channels are
standardised over the units of its own network, so that networks of a batch do not mix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from deepalign_cli.errors import MismatchError
from deepalign_cli.network.graph import Edge, Ends, Graph, Vector
from deepalign_cli.network.universal import Features
from deepalign_cli.symmetry.symmetry import Weights

_TINY = 1e-12
_LEAST_VARIANCE = 1e-5
_HINT = "the universal network aligns every architecture that has a spec: `--network universal-v1`."


@dataclass(frozen=True)
class DwsConfig:
    """The one architecture (`sizes`: inputs, hidden layers, outputs), and the encoder's own sizes.

    `channels` an entry, `layers` with the last, which gives `out` features a unit; the inputs are first
    mapped to `reduced`. What a layer costs is channels^2 products for each entry between hidden layers.

    Raises:
        ValueError: there is no hidden layer, or a size is no positive number.
    """

    sizes: tuple[int, ...]
    channels: int = 32
    layers: int = 4
    out: int = 64
    reduced: int = 8

    def __post_init__(self) -> None:
        if len(self.sizes) < 3 or min(self.sizes) < 1:
            raise ValueError(f"sizes = {list(self.sizes)} is not [inputs, hidden units ..., outputs]")
        for name in ("channels", "layers", "out", "reduced"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is not positive")


@dataclass(frozen=True)
class LinearChain:
    """Linear layers with biases, from the inputs to the outputs: layer i writes group i and its bias."""

    groups: tuple[str, ...]
    edges: tuple[Edge, ...]  # one more than groups
    biases: tuple[Vector, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, hidden layers, outputs."""
        return (self.edges[0].sizes[1], *(edge.sizes[0] for edge in self.edges))


@dataclass
class State:
    """Features on a chain's tensors: those of the first and last weight hold all labels' channels."""

    first: Float[Tensor, "batch _ inputs_channels"]
    between: list[Float[Tensor, "batch _ _ channels"]]  # by target unit and source unit
    last: Float[Tensor, "batch _ outputs_channels"]
    biases: list[Float[Tensor, "batch _ channels"]]


class Dws(nn.Module):
    """Weights -> per-unit features of the hidden layers, equivariant: features move with their unit."""

    def __init__(self, config: DwsConfig) -> None:
        super().__init__()
        self.config = config
        self.reduce = nn.Linear(config.sizes[0], config.reduced, bias=False)
        channels = [1, *[config.channels] * (config.layers - 1)]
        self.layers = nn.ModuleList(_Layer(config, a, b) for a, b in pairwise(channels))
        # The last layer: only the biases' features are asked for, and no ReLU follows.
        self.leave = nn.ModuleList(nn.Linear(w, config.out) for w in _context_widths(config, channels[-1]))

    def forward(self, graph: Graph, weights: Weights, seeds: Sized) -> Features:
        """The features of a stack of networks.

        Nothing here is random: `seeds` only say how long the batch axis of the result is.

        Raises:
            MismatchError: the networks are not chains of the sizes that the encoder is for.
        """
        chain = chain_of(graph)
        if chain.sizes != self.config.sizes:
            own, found = ("-".join(map(str, sizes)) for sizes in (self.config.sizes, chain.sizes))
            raise MismatchError(f"this aligner is for networks of the sizes {own}, not {found}.", _HINT)
        state = self._enter(chain, weights)
        for layer in self.layers:
            state = layer(state)
        batch = max(len(seeds), len(state.first))
        read = zip(chain.groups, self.leave, _contexts(state), strict=True)
        return {g: leave(x).expand(batch, -1, -1) for g, leave, x in read}

    def _enter(self, chain: LinearChain, weights: Weights) -> State:
        """Every tensor over its root mean square, inputs reduced."""
        first, *between, last = (
            _unit_scale(edge.matrix(weights[edge.cell.name]).squeeze(-1)) for edge in chain.edges
        )
        biases = [_unit_scale(v.cell.block(weights[v.cell.name]).flatten(1)) for v in chain.biases]
        return State(
            self.reduce(first), [m.unsqueeze(-1) for m in between],
            last.transpose(1, 2), [b.unsqueeze(-1) for b in biases],
        )  # fmt: skip


class _Layer(nn.Module):
    """Linear equivariant maps between neighbouring tensors, and a ReLU.

    An entry of a weight hears itself, its row and column (with the biases and the weights beside them)
    and the means over all; a bias hears itself, the weights that write and read its unit, and the means.
    """

    def __init__(self, config: DwsConfig, before: int, after: int) -> None:
        super().__init__()
        widths = _context_widths(config, before)
        self.first = nn.Linear(widths[0], config.reduced * after)
        self.last = nn.Linear(widths[-1], config.sizes[-1] * after)
        self.biases = nn.ModuleList(nn.Linear(w, after) for w in widths)
        self.own = nn.ModuleList(nn.Linear(before, after, bias=False) for _ in widths[1:])
        self.rows = nn.ModuleList(nn.Linear(w, after) for w in widths[1:])
        self.columns = nn.ModuleList(nn.Linear(w, after, bias=False) for w in widths[:-1])

    def forward(self, state: State) -> State:
        contexts = list(_contexts(state))
        between = []
        for i, m in enumerate(state.between):
            y = self.own[i](m)
            y += self.rows[i](contexts[i + 1]).unsqueeze(2)
            y += self.columns[i](contexts[i]).unsqueeze(1)
            between.append(y.relu_())
        return State(
            self.first(contexts[0]).relu(), between, self.last(contexts[-1]).relu(),
            [to(x).relu() for to, x in zip(self.biases, contexts, strict=True)],
        )  # fmt: skip


def chain_of(graph: Graph) -> LinearChain:
    """The graph read as a chain of linear layers.

    Raises:
        MismatchError: there is anything else in it, or a hidden layer has no bias.
    """
    path = [edge for edge in graph.edges if edge.ends is Ends.INPUTS][:1]
    while path and path[-1].target and len(path) < len(graph.edges):
        path += graph.readers[path[-1].target][:1]
    groups = tuple(edge.target for edge in path[:-1])
    whole = {id(e) for e in path} == {id(e) for e in graph.edges} and set(groups) == set(graph.symmetry.sizes)
    if not whole or path[-1].ends is not Ends.OUTPUTS:
        raise MismatchError("this network is no plain chain of layers, as the 'dws' encoder needs it.", _HINT)
    for edge in path:
        if math.prod(edge.sizes) != math.prod(graph.symmetry.shapes[edge.cell.name]):
            raise MismatchError(
                f"'{edge.cell.name}' is more than one matrix between two layers, which the 'dws' encoder "
                "does not read.",
                _HINT,
            )
    return LinearChain(groups, tuple(path), tuple(_bias_of(graph, g) for g in groups))


def _bias_of(graph: Graph, group: str) -> Vector:
    found = [v for v in graph.vectors if v.group == group]
    names = ", ".join(f"'{v.cell.name}'" for v in found) or "nothing"
    if len(found) != 1 or found[0].role in ("weight", "running_mean", "running_var"):
        raise MismatchError(
            f"the 'dws' encoder needs one bias and no norm in every hidden layer; '{group}' has {names}.",
            _HINT,
        )
    return found[0]


def _contexts(state: State) -> Iterator[Float[Tensor, "batch n context"]]:
    """For every group what its units know: writing weight, bias, reading weight; and the means of these."""
    writing = [state.first, *(m.mean(2) for m in state.between)]
    reading = [*(m.mean(1) for m in state.between), state.last]
    for parts in zip(writing, state.biases, reading, strict=True):
        x = torch.cat(parts, dim=2)
        variance, mean = torch.var_mean(x, dim=1, keepdim=True, correction=0)
        # A mean over n entries varies from unit to unit by 1/sqrt(n) only, which this makes up for.
        yield torch.cat([(x - mean) * (variance + _LEAST_VARIANCE).rsqrt(), mean.expand_as(x)], dim=2)


def _context_widths(config: DwsConfig, channels: int) -> list[int]:
    """How wide the context of each hidden layer is, where tensors have so many channels."""
    hidden = len(config.sizes) - 2
    writing = [config.reduced] + [1] * (hidden - 1)
    reading = [1] * (hidden - 1) + [config.sizes[-1]]
    return [2 * channels * (a + 1 + b) for a, b in zip(writing, reading, strict=True)]


def _unit_scale(w: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
    """Each network's tensor over its standard deviation about zero, so that a constant one is finite."""
    scale = w.flatten(1).square().mean(1).sqrt() + _TINY
    return w / scale.reshape(-1, *[1] * (w.ndim - 1))
