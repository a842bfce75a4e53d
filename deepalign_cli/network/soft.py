"""Soft permutations acting on tensors, for training: doubly stochastic matrices in a permutation's place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from deepalign_cli.assignment import assign
from deepalign_cli.symmetry.blocks import Block, order
from deepalign_cli.symmetry.symmetry import Symmetry

Matrices = Mapping[str, Float[Tensor, "batch n n"]]


def soft_act(
    symmetry: Symmetry, matrices: Matrices, name: str, w: Float[Tensor, "batch ..."]
) -> Float[Tensor, "batch ..."]:
    """A stack of tensors with every group's axis multiplied by its matrix: row i is place i of the result.

    For permutation matrices this is `Symmetry.act`. Groups without a matrix stay.
    """
    for dim, blocks in enumerate(symmetry.blocks.get(name, ()), 1):
        if not any(atom.name in matrices for block in blocks for atom, _, _ in block.factors):
            continue
        parts = [_moved(matrices, block, w, dim) for block in blocks]
        w = torch.cat(parts, dim) if len(parts) > 1 else parts[0]
        if (index := order(blocks)) is not None:
            w = w.index_select(dim, index.to(w.device))
    return w


def _moved(matrices: Matrices, block: Block, w: Float[Tensor, "batch ..."], dim: int) -> Tensor:
    """A block's entries along an axis, its groups' axes multiplied by their matrices."""
    part = block.cut(w, dim)
    shape = part.shape
    part = part.reshape(*shape[:dim], *block.sizes, *shape[dim + 1 :])
    for number, (atom, _, _) in enumerate(block.factors):
        if atom.name in matrices:
            part = _multiplied(matrices[atom.name], part, dim + number)
    return part.reshape(shape)


def _multiplied(p: Float[Tensor, "batch n n"], w: Float[Tensor, "batch ..."], axis: int) -> Tensor:
    front = w.movedim(axis, 1)
    made = p @ (front.flatten(2) if front.ndim > 2 else front.unsqueeze(2))
    return made.reshape(front.shape).movedim(1, axis)


def straight_through(soft: Float[Tensor, "batch n n"]) -> Float[Tensor, "batch n n"]:
    """The nearest permutation matrix going forward, the soft one going back (Bengio et al. 2013)."""
    hard = torch.stack([functional.one_hot(assign(p), p.shape[-1]) for p in soft.detach()]).to(soft)
    return soft + (hard - soft).detach()
