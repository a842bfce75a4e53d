"""How strongly each unit is driven and is read: the scales by which messages are weighed.

For independent inputs of variance one, unit t of a layer has the variance sum_s W_ts^2 rho_s^2, whatever
the order of the units; from the outputs backwards the same sum gives how much unit s matters. Dividing by
both makes the messages blind to a rescaling of ReLU units in networks without norms, and to the scale of
whatever a BatchNorm follows. Elsewhere the aligner brings both networks to canonical scales first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.errors import NonFiniteError
from deepalign_cli.network.graph import Edge, Ends, Graph
from deepalign_cli.network.lazy import Lazy
from deepalign_cli.network.waves import grid_basis
from deepalign_cli.symmetry.symmetry import Weights

_TINY = 1e-12
_MOST_KEPT = 2**24  # entries of a network


@dataclass
class Matrix:
    """An edge's entries in the grid's waves, and the four scales of its messages.

    A message onward is `down * (w @ (rho * h))`, one back is `up * (w^T @ (pull * h))`, where rho belongs
    to the source's units, pull and down to the target's, up to the source's. `w` is read when asked for.
    """

    read: Callable[[], Float[Tensor, "batch target source waves"]]
    down: Float[Tensor, "batch target 1"]
    pull: Float[Tensor, "batch target 1"]
    up: Float[Tensor, "batch source 1"]

    @property
    def w(self) -> Float[Tensor, "batch target source waves"]:
        """The edge's entries."""
        return self.read()


@dataclass
class Strengths:
    """A stack of networks as the encoder reads them.

    `drive` (rho) is each unit's root mean square under random inputs, `importance` its drive times how
    strongly it is read, as a logarithm with mean zero.
    """

    matrices: dict[int, Matrix]
    drive: dict[str, Float[Tensor, "batch n 1"]]
    importance: dict[str, Float[Tensor, "batch n"]]
    vectors: dict[str, Float[Tensor, "batch n features"]]


VECTOR_FEATURES = 4


def strengths(graph: Graph, weights: Weights) -> Strengths:
    """Read a stack of networks; every tensor of `weights` has a leading batch axis.

    Computed in the weights' own type, float32 or float64. Where drives, which multiply layer by layer, are
    too large for float32, they are computed in float64 and told as parts of their means, by which no message
    changes. Of large networks no tensor is kept.

    Raises:
        NonFiniteError: they are too large for float64, too.
    """
    count = sum(math.prod(graph.symmetry.shapes[edge.cell.name]) for edge in graph.edges)
    entries = Lazy(
        range(len(graph.edges)),
        lambda i: _entries(graph.edges[i], weights[graph.edges[i].cell.name]),
        keeps=count <= _MOST_KEPT,
    )
    scales = _scales(graph, weights, entries)
    if not scales.is_finite and has_wider(entries[0]):
        wide = Lazy(entries, lambda i: entries[i].double())
        scales = _scales(graph, Lazy(graph.names, lambda name: weights[name].double()), wide)
        scales = scales.relative(graph).to(entries[0].dtype)
    if not scales.is_finite:
        raise NonFiniteError(
            "the weights are so large that what layers make of one another overflows.",
            "use -m weights, which multiplies no more than two weights.",
        )
    matrices = {
        i: Matrix(partial(entries.__getitem__, i), 1 / scales.rows[i], scales.pull[i], 1 / scales.columns[i])
        for i in entries
    }
    return Strengths(matrices, scales.drive, scales.importance, scales.vectors)


def has_wider(w: Tensor) -> bool:
    """Whether what overflows in a tensor's type can be computed in float64."""
    return w.dtype == torch.float32 and w.device.type != "mps"


@dataclass
class _Scales:
    """What `Strengths` says of units, and of each edge the root mean squares and pulls."""

    drive: dict[str, Float[Tensor, "batch _ 1"]]
    rows: dict[int, Float[Tensor, "batch _ 1"]]
    pull: dict[int, Float[Tensor, "batch _ 1"]]
    columns: dict[int, Float[Tensor, "batch _ 1"]]
    importance: dict[str, Float[Tensor, "batch _"]]
    vectors: dict[str, Float[Tensor, "batch _ features"]]

    @property
    def _all(self) -> Iterator[Tensor]:
        for one in (self.drive, self.rows, self.pull, self.columns, self.importance, self.vectors):
            yield from one.values()

    @property
    def is_finite(self) -> bool:
        """Whether no number overflowed."""
        return all(bool(x.isfinite().all()) for x in self._all)

    def relative(self, graph: Graph) -> _Scales:
        """The same with drives and pulls of mean one in each group: messages divide by them again."""
        means = {g: x.mean(1, keepdim=True) for g, x in self.drive.items()}
        drive = {g: x / means[g] for g, x in self.drive.items()}
        rows = {i: x / means.get(graph.edges[i].source, 1.0) for i, x in self.rows.items()}
        pulls = {i: x.mean(1, keepdim=True) for i, x in self.pull.items()}
        pull = {i: x / pulls[i] for i, x in self.pull.items()}
        columns = {i: x / pulls[i] for i, x in self.columns.items()}
        return _Scales(drive, rows, pull, columns, self.importance, self.vectors)

    def to(self, dtype: torch.dtype) -> _Scales:
        """The same in another type."""
        parts = (self.drive, self.rows, self.pull, self.columns, self.importance, self.vectors)
        return _Scales(*({k: x.to(dtype) for k, x in part.items()} for part in parts))  # type: ignore[arg-type]


def _scales(graph: Graph, weights: Weights, entries: Mapping[int, Tensor]) -> _Scales:
    """All scales of a stack of networks, in the type of its entries."""
    first = entries[0]
    one = {
        g: torch.ones(first.shape[0], n, 1, dtype=first.dtype, device=first.device)
        for g, n in graph.symmetry.sizes.items()
    }
    gamma = {g: _norm_scale(graph, weights, g, one[g]) for g in graph.symmetry.sizes}
    drive, rows = _onward(graph, entries, one, gamma)
    pull, columns, read = _back(graph, entries, one, gamma, rows)
    importance = {g: (drive[g] * read[g] + _TINY).log().squeeze(-1) for g in one}
    importance = {g: x - x.mean(1, keepdim=True) for g, x in importance.items()}
    vectors = {g: _vector_features(graph, weights, g, rows, gamma[g], one[g]) for g in one}
    return _Scales(drive, rows, pull, columns, importance, vectors)


def _entries(edge: Edge, w: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch target source waves"]:
    matrix = edge.matrix(w)
    if matrix.shape[-1] == 1:
        return matrix
    return matrix @ grid_basis(edge.grid).to(matrix.device, matrix.dtype)


def _onward(
    graph: Graph, entries: Mapping[int, Tensor], one: dict[str, Tensor], gamma: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[int, Tensor]]:
    """Each group's drive, and each edge's root mean square by target unit."""
    drive, rows = dict(one), dict[int, Tensor]()
    number = {id(edge): i for i, edge in enumerate(graph.edges)}
    for level in graph.levels(graph.depth):
        fresh, settled = {}, {g for g in one if graph.depth[g] < graph.depth[level[0]]} | {""}
        for g in level:
            means = []
            for edge in graph.writers[g]:
                means.append(_rms(entries[number[id(edge)]], drive.get(edge.source), dim=2))
                if edge.source in settled:
                    rows[number[id(edge)]] = means[-1]
            fresh[g] = _combined(means, gamma[g] if g in graph.normed else None, one[g])
        drive |= fresh
    for i, edge in enumerate(graph.edges):  # by the drives of groups that are not before the target's
        if i not in rows:
            rows[i] = _rms(entries[i], drive.get(edge.source), dim=2)
    return drive, rows


def _back(
    graph: Graph, entries: Mapping[int, Tensor], one: dict[str, Tensor], gamma: dict[str, Tensor],
    rows: dict[int, Tensor],
) -> tuple[dict[int, Tensor], dict[int, Tensor], dict[str, Tensor]]:  # fmt: skip
    """Each edge's pull by target unit, its root mean square by source unit, and how each group is read."""
    read, columns = dict(one), dict[int, Tensor]()
    number = {id(edge): i for i, edge in enumerate(graph.edges)}

    def pull_of(i: int, edge: Edge) -> Tensor:
        if edge.ends is Ends.OUTPUTS:
            return torch.ones_like(rows[i])
        g = edge.target
        return read[g] * gamma[g] / rows[i] if g in graph.normed else read[g]

    for level in graph.levels(graph.height):
        fresh, settled = {}, {g for g in one if graph.height[g] < graph.height[level[0]]} | {""}
        for g in level:
            means = []
            for edge in graph.readers[g]:
                i = number[id(edge)]
                means.append(_rms(entries[i], pull_of(i, edge), dim=1))
                if edge.target in settled:
                    columns[i] = means[-1]
            fresh[g] = _combined(means, None, one[g])
        read |= fresh
    pull = {i: pull_of(i, edge) for i, edge in enumerate(graph.edges)}
    columns = {i: columns[i] if i in columns else _rms(entries[i], pull[i], dim=1) for i in pull}
    return pull, columns, read


def _rms(w: Tensor, scale: Tensor | None, dim: int) -> Float[Tensor, "batch n 1"]:
    """The root of sum w^2 scale^2 over axis `dim` (1: targets, 2: sources) and the waves."""
    energy = w.square().sum(-1) if w.shape[-1] > 1 else w.square().squeeze(-1)
    energy = energy.transpose(1, 2) if dim == 1 else energy
    total = energy.sum(2, keepdim=True) if scale is None else energy @ scale.square()
    return (total + _TINY**2).sqrt()


def _combined(found: list[Tensor], norm: Tensor | None, one: Tensor) -> Tensor:
    """A group's strength from its edges'. One edge is taken as it is; several, each over its mean."""
    if norm is not None:
        return norm
    if not found:
        return one
    if len(found) == 1:
        return found[0]
    relative = [(x.square() / x.square().mean(1, keepdim=True)) for x in found]
    return torch.stack(relative).mean(0).sqrt()


def _norm_scale(graph: Graph, weights: Weights, group: str, one: Tensor) -> Tensor:
    scales = [
        v.cell.block(weights[v.cell.name]).square()
        for v in graph.vectors
        if v.group == group and v.role == "weight"
    ]
    return torch.stack(scales).mean(0).sqrt().reshape(one.shape) + _TINY if scales else one


def _vector_features(
    graph: Graph, weights: Weights, group: str, rows: dict[int, Tensor], gamma: Tensor, one: Tensor
) -> Float[Tensor, "batch n features"]:
    """Per unit: the bias over its drive, the same against the other units, and the norms' parameters."""
    of_role: dict[str, list[Tensor]] = {}
    for v in graph.vectors:
        if v.group == group:
            of_role.setdefault(v.role, []).append(v.cell.block(weights[v.cell.name]).reshape(one.shape))
    writers = [rows[i] for i, e in enumerate(graph.edges) if e.target == group]
    known = ("weight", "running_mean", "running_var")
    shifts = [x for role, found in of_role.items() if role not in known for x in found]
    scale = gamma if group in graph.normed else torch.stack(writers).mean(0) if writers else one
    bias = torch.stack(shifts).mean(0) / scale if shifts else torch.zeros_like(one)
    spread = bias.square().mean(1, keepdim=True).sqrt() + _TINY
    log_gamma = gamma.log() if group in graph.normed else torch.zeros_like(one)
    variance = torch.stack(of_role["running_var"]).clamp(min=0).mean(0) if group in graph.normed else one
    mean = torch.stack(of_role.get("running_mean", [torch.zeros_like(one)])).mean(0)
    level = mean / (variance + 1e-5).sqrt()
    centred = log_gamma - log_gamma.mean(1, keepdim=True)
    return torch.cat([bias.clamp(-10, 10), bias / spread, centred, level.clamp(-10, 10)], dim=2)
