"""How many examples to run at a time: as many as keep every intermediate tensor small.

On a CPU, convolutions get 1.5 to 3 times slower per example where a layer's output leaves the cache, and
matrix products where batches are short. So it is not the number of examples that counts but what they
become: MLPs run on the most that is taken, CNNs on 28x28 images on some 160, on 96x96 on some 14.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deepalign_cli.models.run import Run
from deepalign_cli.symmetry.symmetry import Weights

MOST = 1000
_ENTRIES = 2**21  # of the largest tensor


class _Largest(TorchFunctionMode):
    """The most entries of any tensor that has an axis for the examples."""

    def __init__(self, examples: int) -> None:
        super().__init__()
        self.examples, self.entries = examples, 1

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and self.examples in out.shape:
            self.entries = max(self.entries, out.numel())
        return out


def run_and_size(run: Run, weights: Weights, x: Shaped[Tensor, "batch ..."]) -> tuple[Tensor, int]:
    """The outputs of a few examples, and how many to run at a time."""
    with torch.no_grad(), _Largest(len(x)) as largest:
        outputs = run(weights, x)
    return outputs, max(1, min(MOST, _ENTRIES * len(x) // max(largest.entries, x.numel())))
