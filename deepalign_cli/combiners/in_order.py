"""Networks combined in an order of their own, so that the one in which they are given makes no difference.

A sum of floating-point numbers depends on their order in its last bits, and a random combiner draws for the
first network, the second, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from deepalign_cli.combiners.combiner import Combine
from deepalign_cli.symmetry.tensors import is_mixed, narrowed


def in_order(combine: Combine, order: Sequence[int]) -> Combine:
    """The combiner of networks that are handed to `combine` in that order; in the first one's type.

    What is no floating-point or complex number still comes from the first that is given.
    """

    def ordered(name: str, tensors: Sequence[Tensor]) -> Tensor:
        first = tensors[0]
        if not is_mixed(first):
            return combine(name, tensors)
        wide = reduce(torch.promote_types, (w.dtype for w in tensors))  # one rounding, where types differ
        return narrowed(combine(name, [tensors[i].to(wide) for i in order]), first.dtype, name)

    return ordered
