"""Linear assignment: the one function through which every method rounds a similarity to a permutation."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def assign(gain: Float[Tensor, "n n"]) -> Int64[Tensor, " n"]:
    """The permutation p that maximises sum_i gain[i, p[i]], exactly.

    scipy's modified Jonker-Volgenant (Crouse 2016); `benchmarks/assignment.py` compares it with the
    LAP packages on gain matrices of trained networks. Ties are broken the same way every time.

    Raises:
        ValueError: the gain holds NaN or Inf.
    """
    _, columns = linear_sum_assignment(gain.detach().cpu().numpy(), maximize=True)
    return torch.from_numpy(columns).long()
