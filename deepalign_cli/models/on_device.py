"""Networks that run on another device than the processor.

Only the running takes place there: weights and inputs go to the device, outputs come back. Whatever matches
units, mixes weights or measures losses stays on the processor, in the types that it has there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.errors import DataError, one_line
from deepalign_cli.models.run import Run
from deepalign_cli.symmetry.symmetry import Weights

CPU = torch.device("cpu")


@dataclass(frozen=True)
class OnDevice:
    """A network that runs on a device; outputs are on the processor, and gradients flow through.

    Weights that are there already are handed on as the very tensors that came. What the network itself
    makes while it runs is made there, too.
    """

    run: Run
    device: torch.device

    def __call__(self, weights: Weights, x: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "batch ..."]:
        """Raises DataError where the network does not run there."""
        weights, x = self.placed(weights), x.to(self.device)
        with self.device:
            out = self.run(weights, x)
        return out.to(CPU)

    def placed(self, weights: Weights) -> Weights:
        """The weights on the device, tied ones still tied. Raises DataError where it does not take them."""
        held = dict(weights)  # a checkpoint reads a tensor each time it is asked for one
        if all(map(self._has, held.values())):
            return weights
        copies: dict[int, Tensor] = {}
        try:
            for w in held.values():
                copies.setdefault(id(w), w.to(self.device))
        except (RuntimeError, TypeError) as error:  # it is full, or has no numbers of this type
            problem = f"the network cannot be put on '{self.device}': {one_line(error)}."
            raise DataError(problem, "run it on the processor: --device cpu.") from error
        return {name: copies[id(w)] for name, w in held.items()}

    def _has(self, w: Tensor) -> bool:
        return w.device.type == self.device.type and self.device.index in (None, w.device.index)


def on_device(run: Run, device: torch.device) -> Run:
    """The network on a device; the very network where that is the processor."""
    return run if device.type == "cpu" else OnDevice(run, device)


def placed_for(run: Run, weights: Weights) -> Weights:
    """The weights where the network runs; the very mapping where they are there already.

    Whoever runs the same weights on many batches calls this first, so that they travel once.
    """
    return run.placed(weights) if isinstance(run, OnDevice) else weights


def runs_on(run: Run) -> torch.device:
    """The device that a network runs on."""
    return run.device if isinstance(run, OnDevice) else CPU
