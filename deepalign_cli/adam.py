"""Adam (Kingma and Ba 2015, algorithm 1) on a few tensors. Torch's takes a second to load a compiler."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_BETAS, _EPS = (0.9, 0.999), 1e-8


class Adam:
    """Changes tensors in place by their slopes."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self._tensors, self._steps = list(tensors), 0
        self._means = [torch.zeros_like(x) for x in self._tensors]
        self._squares = [torch.zeros_like(x) for x in self._tensors]

    @torch.no_grad()
    def step(self, slopes: Sequence[Tensor], rate: float) -> None:
        """One step of so high a rate; `slopes` in the order of the tensors."""
        self._steps += 1
        first, second = _BETAS
        for x, slope, mean, square in zip(self._tensors, slopes, self._means, self._squares, strict=True):
            mean.lerp_(slope, 1 - first)
            square.mul_(second).addcmul_(slope, slope, value=1 - second)
            spread = (square.sqrt() / (1 - second**self._steps) ** 0.5).add_(_EPS)
            x.addcdiv_(mean, spread, value=-rate / (1 - first**self._steps))
