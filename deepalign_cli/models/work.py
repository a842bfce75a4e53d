"""How much work a network is: its multiplications, counted as it runs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def multiplications(run: Callable[[], object]) -> int:
    """How many numbers are multiplied by others in the products and convolutions of a run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops()) // 2  # which counts additions, too
