"""The rotations that a group's kind allows, each found as the one nearest to a matrix.

A kind of rotation is a closed set of orthogonal matrices Q, given by the map C -> argmax_Q <Q, C>, from
which all else follows: a random element is the nearest to a Gaussian, and Q is of the kind if it is its own
nearest. Everything is done in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

Nearest = Callable[[Float64[Tensor, "m n n"]], Float64[Tensor, "m n n"]]

_STILL = 1e-6  # of an entry: less is what float32 makes of the identity
ROUNDING = 1e-9  # by which a stored rotation may miss its kind


@dataclass(frozen=True)
class Turn:
    """What a group's units are multiplied by: one matrix, or one for each unit of the group `within`.

    New unit i is sum_j matrix[h, i, j] of the old units j, in head h, if there are heads, or everywhere.

    >>> quarter = Turn(torch.tensor([[[0.0, -1.0], [1.0, 0.0]]]).double())
    >>> (quarter @ quarter).matrix.long().tolist()
    [[[-1, 0], [0, -1]]]
    """

    matrix: Float64[Tensor, "m n n"]
    within: str = ""

    def __matmul__(self, other: Turn) -> Turn:
        """The turn that does `other` first and `self` second."""
        return Turn(self.matrix @ other.matrix, self.within)

    def moved_by(self, perm: Tensor | None) -> Turn:
        """The same turn after the heads have been permuted: head i is what was head perm[i]."""
        return self if perm is None else Turn(self.matrix[perm], self.within)

    @property
    def transposed(self) -> Turn:
        """The turn that undoes this one, where heads stay."""
        return Turn(self.matrix.mT, self.within)

    @property
    def moved(self) -> int:
        """How many units are not left as they are, but for rounding, in any head."""
        eye = torch.eye(self.matrix.shape[-1], dtype=self.matrix.dtype)
        return int(((self.matrix - eye).abs() > _STILL).any(2).any(0).sum())


def polar(c: Float64[Tensor, "m n n"]) -> Float64[Tensor, "m n n"]:
    """The orthogonal matrix nearest to C (Schönemann 1966): U V^T of C = U S V^T."""
    u, _, vh = torch.linalg.svd(c)
    nearest: Tensor = u @ vh
    return nearest


def centred_polar(c: Float64[Tensor, "m n n"]) -> Float64[Tensor, "m n n"]:
    """The nearest orthogonal matrix that keeps the mean of all units: Q 1 = 1.

    LayerNorm subtracts that mean, so it commutes with these and no others. C is turned by the reflection H
    that carries the ones-vector onto the first axis; what is left is the polar factor of the rest.
    """
    n = c.shape[-1]
    to_axis = torch.full((n,), n**-0.5, dtype=c.dtype)
    to_axis[0] -= 1.0
    size = to_axis.square().sum()
    reflection = torch.eye(n, dtype=c.dtype)
    if n > 1:
        reflection = reflection - 2.0 / size * to_axis[:, None] * to_axis
    inner = torch.eye(n, dtype=c.dtype).expand(c.shape).clone()
    inner[:, 1:, 1:] = polar((reflection @ c @ reflection)[:, 1:, 1:])
    return reflection @ inner @ reflection


def planar(c: Float64[Tensor, "m n n"]) -> Float64[Tensor, "m n n"]:
    """The nearest product of rotations in the planes (k, k + n/2), which rotary positions commute with.

    In each plane the angle is atan2(C_21 - C_12, C_11 + C_22) (Su et al. 2021 in the halves' order of
    Llama).
    """
    half = c.shape[-1] // 2
    first, second = c[:, :half, :half], c[:, half:, half:]
    low, high = c[:, half:, :half], c[:, :half, half:]
    cosine = (first + second).diagonal(dim1=1, dim2=2)
    sine = (low - high).diagonal(dim1=1, dim2=2)
    angle = torch.atan2(sine, cosine)
    cos, sin = torch.diag_embed(angle.cos()), torch.diag_embed(angle.sin())
    return torch.cat([torch.cat([cos, -sin], 2), torch.cat([sin, cos], 2)], 1)


def neighbour_planar(c: Float64[Tensor, "m n n"]) -> Float64[Tensor, "m n n"]:
    """The same in the planes (2k, 2k + 1), in which GPT-J and Cohere turn by positions."""
    order = torch.arange(c.shape[-1]).reshape(-1, 2).T.flatten()
    q = torch.zeros_like(c)
    q[:, order[:, None], order] = planar(c[:, order[:, None], order])
    return q


def half_turns(c: Float64[Tensor, "m n n"]) -> Float64[Tensor, "m n n"]:
    """The nearest of the half turns and none in the planes (k, k + n/2): the signs of pairs of units.

    They commute with rotary positions and with the gains of a norm of queries or keys, which no other
    angle does.
    """
    gained = c.diagonal(dim1=1, dim2=2).reshape(len(c), 2, -1).sum(1)
    signs = torch.where(gained < 0, -1.0, 1.0).to(c.dtype)
    return torch.diag_embed(torch.cat([signs, signs], 1))


def nearest_order(c: Float64[Tensor, "m n n"]) -> Float64[Tensor, "m n n"]:
    """The nearest permutation matrix: heads of queries, in an order of their own behind each head of keys."""
    from scipy.optimize import linear_sum_assignment

    q = torch.zeros_like(c)
    for one, gains in zip(q, c, strict=True):
        one[linear_sum_assignment(gains.numpy(), maximize=True)] = 1.0
    return q


def random_rotations(nearest: Nearest, m: int, n: int, rng: torch.Generator) -> Float64[Tensor, "m n n"]:
    """Uniform over the kind: the nearest to a Gaussian, whose distribution no rotation changes."""
    return nearest(torch.randn(m, n, n, generator=rng, dtype=torch.float64))


def is_rotation(nearest: Nearest, q: Tensor) -> bool:
    """Whether all of the matrices are of the kind, to rounding."""
    if q.dtype != torch.float64 or not bool(q.isfinite().all()):
        return False
    eye = torch.eye(q.shape[-1], dtype=torch.float64)
    off = (q @ q.mT - eye).abs().max() if q.numel() else torch.zeros(())
    return bool(off <= ROUNDING) and bool((nearest(q) - q).abs().max() <= ROUNDING)
