"""A canonical sign for every unit of an odd activation, so that predictions do not depend on signs.

A random reading of the labelled inputs is carried through the layers; the side of a random hyperplane on
which a unit's reading falls decides its sign. Two units that are nearly alike
up to their sign get the same one under most readings, and the aligner averages over several.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.network.graph import Ends, Graph
from deepalign_cli.network.waves import sketch
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Weights

_CHANNELS = 16
_NORMS = ("weight", "running_mean", "running_var")  # what a norm multiplies and has seen


def canonical_signs(graph: Graph, weights: Weights, seed: int) -> Element:
    """The element that gives every unit that may turn its canonical sign under one reading.

    `weights` are one network's, without a batch axis. It is equivariant: the signs move with the units,
    and turn where a unit was turned. Of such a unit only entries that turn with it are read, and whoever
    reads it by entries that do not gets its reading in its canonical sign.
    """
    turning = graph.symmetry.turning
    readings: dict[str, Tensor] = {}
    signs: dict[str, Tensor] = {}
    for level in graph.levels(graph.depth):
        fresh = {g: _reading(graph, weights, g, (readings, signs), seed) for g in level}
        for g, reading in fresh.items():
            if g in turning:
                signs[g] = torch.where(reading.sum(1) < 0, -1.0, 1.0).double()
        readings |= fresh  # as they are: a turned unit's reading is turned, and so are the weights it meets
    return Element({}, signs)


def _reading(
    graph: Graph, weights: Weights, group: str, before: tuple[dict[str, Tensor], dict[str, Tensor]], seed: int
) -> Float[Tensor, "n channels"]:
    """A group's reading, from the readings and signs of the groups before it."""
    readings, signs = before
    turns, parts = graph.symmetry.kinds[group].turns, []
    for edge in graph.writers[group]:
        if edge.flips[0] != turns:
            continue
        w = edge.matrix(weights[edge.cell.name].unsqueeze(0))[0]
        if edge.ends is Ends.INPUTS:
            z = sketch(seed, w.shape[1], w.shape[2], _CHANNELS, w)
            parts.append(torch.einsum("tsk,skc->tc", w, z))
        elif edge.source in readings:
            reading = readings[edge.source]
            if edge.source in signs and not edge.flips[1]:
                reading = signs[edge.source].to(reading)[:, None] * reading
            parts.append(torch.einsum("tsk,sc->tc", w, reading))
    for vector in graph.vectors:
        turned = any(factor.flips for factor in vector.cell.factors)
        if vector.group == group and turned == turns and vector.role not in _NORMS:
            b = vector.cell.block(weights[vector.cell.name].unsqueeze(0)).reshape(-1, 1)
            parts.append(b * sketch(seed, 1, 1, _CHANNELS, b)[0])
    if not parts:
        like = weights[graph.names[0]]
        return like.new_zeros(graph.symmetry.sizes[group], _CHANNELS)
    total = torch.stack(parts).sum(0)
    return total / (total.square().mean().sqrt() + 1e-12)
