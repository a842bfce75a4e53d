"""Soft permutations acting on tensors, for training: doubly stochastic matrices in a permutation's place."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.symmetry.symmetry import Symmetry

Matrices = Mapping[str, Float[Tensor, "batch n n"]]


def soft_act(
    symmetry: Symmetry, matrices: Matrices, name: str, w: Float[Tensor, "batch ..."]
) -> Float[Tensor, "batch ..."]:
    """A stack of tensors with every group's axis multiplied by its matrix: row i is place i of the result.

    For permutation matrices this is `Symmetry.act`. Groups without a matrix stay.
    """
    for number, axis in enumerate(symmetry.spec.axes.get(name, ())):
        if not any(g in matrices for g in axis.groups()):
            continue
        parts, start = [], 0
        for term in axis.terms:
            sizes = [symmetry.sizes[a.name] if a.name else a.size for a in term]
            part = w.narrow(number + 1, start, math.prod(sizes))
            start += math.prod(sizes)
            shape = part.shape
            part = part.reshape(*shape[: number + 1], *sizes, *shape[number + 2 :])
            for place, atom in enumerate(term):
                if atom.name in matrices:
                    part = _multiplied(matrices[atom.name], part, number + 1 + place)
            parts.append(part.reshape(shape))
        w = torch.cat(parts, number + 1) if len(parts) > 1 else parts[0]
    return w


def _multiplied(p: Float[Tensor, "batch n n"], w: Float[Tensor, "batch ..."], axis: int) -> Tensor:
    front = w.movedim(axis, 1)
    made = p @ (front.flatten(2) if front.ndim > 2 else front.unsqueeze(2))
    return made.reshape(front.shape).movedim(1, axis)
