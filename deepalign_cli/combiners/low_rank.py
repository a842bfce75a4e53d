"""Sums of products of thin matrices, and the nearest product of a rank, without the sum itself.

sum_i w_i B_i A_i is B A, with B = [w_1 B_1, w_2 B_2, ...] side by side and A = [A_1; A_2; ...] one below the
other. From B = Q R and A' = P S (A' is A transposed) it is Q (R S') P', so that the singular values of the
small R S' are those of the sum. The first r of them are the nearest product of rank r (Eckart, Young 1936).

Example:
    >>> import torch
    >>> b, a = torch.tensor([[3.0], [4.0]]), torch.tensor([[1.0, 0.0]])
    >>> whole = summed([(b, a), (b, a)], [0.5, 1.5])
    >>> [round(float(value), 6) for value in whole.values]  # of 2 b a
    [10.0, 0.0]
    >>> left, right = whole.factors(1)
    >>> torch.allclose(left @ right, 2 * (b @ a).double())
    True
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """The singular values of a matrix [out, in], largest first, and its singular vectors."""

    left: Float[Tensor, "out n"]
    values: Float[Tensor, " n"]
    right: Float[Tensor, "n in"]

    @property
    def norm(self) -> float:
        """The Frobenius norm of the matrix."""
        return float(torch.linalg.vector_norm(self.values))

    def lost(self, rank: int) -> float:
        """The Frobenius norm of what the nearest matrix of this rank lacks."""
        return float(torch.linalg.vector_norm(self.values[rank:]))

    def factors(self, rank: int) -> tuple[Float[Tensor, "out r"], Float[Tensor, "r in"]]:
        """B and A, of which B A is the nearest matrix of this rank; unit for unit they are equally long.

        Where the matrix has fewer singular values, rows and columns of zeros fill them up.
        """
        roots = self.values[:rank].sqrt()
        b, a = self.left[:, :rank] * roots, roots[:, None] * self.right[:rank]
        more = rank - len(roots)
        return torch.nn.functional.pad(b, (0, more)), torch.nn.functional.pad(a, (0, 0, 0, more))


def summed(
    factors: Sequence[tuple[Float[Tensor, "out _"], Float[Tensor, "_ in"]]], weights: Sequence[float]
) -> Spectrum:
    """The spectrum of sum_i weights[i] * B_i A_i, in float64, from the pairs (B_i, A_i)."""
    b = torch.cat([w * b.double() for (b, _), w in zip(factors, weights, strict=True)], dim=1)
    a = torch.cat([a.double() for _, a in factors], dim=0)
    (q, r), (p, s) = torch.linalg.qr(b), torch.linalg.qr(a.T)
    inner = spectrum(r @ s.T)
    return _signed(q @ inner.left, inner.values, inner.right @ p.T)


def spectrum(matrix: Float[Tensor, "out in"]) -> Spectrum:
    """The spectrum of a matrix that is there as a whole."""
    return _signed(*torch.linalg.svd(matrix, full_matrices=False))


def _signed(left: Tensor, values: Tensor, right: Tensor) -> Spectrum:
    """Of u v' and (-u) (-v)' the one where the largest entry of u is positive: the same on every machine."""
    largest = left.gather(0, left.abs().argmax(0, keepdim=True))
    signs = torch.where(largest < 0, -1.0, 1.0).to(left)
    return Spectrum(left * signs, values, right * signs.T)
