"""A canonical sign for every unit of an odd activation, so that predictions do not depend on signs.

A random reading of the labelled inputs is carried through the layers; the side of a random hyperplane on
which a unit's reading falls decides its sign. Two units that are nearly alike
up to their sign get the same one under most readings, and the aligner averages over several.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.network.basis import sketch
from deepalign_cli.network.graph import Ends, Graph
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Weights

_CHANNELS = 16


def canonical_signs(graph: Graph, weights: Weights, seed: int) -> Element:
    """The element that gives every unit of a `sign` group its canonical sign under one reading.

    `weights` are one network's, without a batch axis. It is equivariant: the signs move with the units,
    and turn where a unit was turned.
    """
    turning = graph.symmetry.turning
    readings: dict[str, Tensor] = {}
    signs: dict[str, Tensor] = {}
    for level in graph.levels(graph.depth):
        fresh = {g: _reading(graph, weights, g, readings, seed) for g in level}
        for g, reading in fresh.items():
            if g in turning:
                signs[g] = torch.where(reading.sum(1) < 0, -1.0, 1.0).double()
        readings |= fresh  # as they are: a turned unit's reading is turned, and so are the weights it meets
    return Element({}, signs)


def _reading(
    graph: Graph, weights: Weights, group: str, readings: dict[str, Tensor], seed: int
) -> Float[Tensor, "n channels"]:
    parts = []
    for edge in graph.writers[group]:
        w = edge.matrix(weights[edge.cell.name].unsqueeze(0))[0]
        if edge.ends is Ends.INPUTS:
            z = sketch(seed, w.shape[1], w.shape[2], _CHANNELS, w)
            parts.append(torch.einsum("tsk,skc->tc", w, z))
        elif edge.source in readings:
            parts.append(torch.einsum("tsk,sc->tc", w, readings[edge.source]))
    for vector in graph.vectors:
        if vector.group == group and vector.role not in ("weight", "running_mean", "running_var"):
            b = vector.cell.block(weights[vector.cell.name].unsqueeze(0)).reshape(-1, 1)
            parts.append(b * sketch(seed, 1, 1, _CHANNELS, b)[0])
    if not parts:
        like = weights[graph.names[0]]
        return like.new_zeros(graph.symmetry.sizes[group], _CHANNELS)
    total = torch.stack(parts).sum(0)
    return total / (total.square().mean().sqrt() + 1e-12)
