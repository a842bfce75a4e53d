"""How much work a network is: its layers' multiplications, counted as it runs.

Torch's own counter takes a second to load a compiler.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deepalign_cli.models.calls import Call, Calls
from deepalign_cli.symmetry.symmetry import Weights


@torch.no_grad()
def multiplications(weights: Weights, run: Callable[[Weights], object]) -> int:
    """How many numbers the layers multiply with weights in a run; products without weights do not count."""
    counter = _Counting(weights)
    with counter:
        run(counter.weights)
    return counter.total


class _Counting(Calls):
    total = 0

    def layer(self, call: Call) -> Tensor:
        out = call.output()
        self.total += out.numel() * (call.weight.numel() // call.weight.shape[call.written])
        return out
