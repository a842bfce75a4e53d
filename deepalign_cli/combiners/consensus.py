"""The election of signs of TIES (Yadav et al. 2023, arXiv 2306.01708, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from deepalign_cli.combiners.task_vectors import column


def agreeing(weighed: Float[Tensor, "n ..."]) -> Bool[Tensor, "n ..."]:
    """Which entries have the sign that the sum over the networks has; a sum of 0 counts as positive.

    Entries that are 0 have no sign.
    """
    positive = weighed.sum(0) >= 0
    return torch.where(positive, weighed > 0, weighed < 0)


def agreed(
    vectors: Float[Tensor, "n ..."], weights: Sequence[float], scales: Sequence[float], *, mean: bool
) -> Float[Tensor, " ..."]:
    """sum_i scales[i] * weights[i] * vectors[i] over the networks that agree on an entry's sign.

    A `mean` is divided by the sum of these networks' weights. weights[i] * vectors[i] elect the signs.
    """
    factors = column(weights, vectors)
    weighed = factors * vectors
    agree = agreeing(weighed)
    total = (weighed * agree * column(scales, vectors)).sum(0)
    if not mean:
        return total
    share = (factors * agree).sum(0)
    return total / share.masked_fill(share == 0, 1)
