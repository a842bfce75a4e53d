"""What methods and repairs need to use data: a network to run, and batches to run it on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.symmetry.symmetry import Weights


@runtime_checkable
class Run(Protocol):
    """A network as a function of its weights and a batch of inputs, in evaluation mode.

    It hands the very tensors of `weights` to PyTorch's functions, so that a layer is known by its weight.
    """

    def __call__(self, weights: Weights, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]: ...


# Batches of inputs, from the beginning each time it is called.
Batches = Callable[[], Iterable[Tensor]]
