"""Networks of one architecture that dream together, and how inputs descend on what they make of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from deepalign_cli.adam import Adam
from deepalign_cli.errors import NonFiniteError
from deepalign_cli.models.on_device import placed_for
from deepalign_cli.models.run import Run
from deepalign_cli.models.slopes import slopes
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Weights

_RATE = 0.12


@dataclass(frozen=True)
class Ensemble:
    """A network as a function of its weights, the weights of some, and a few inputs of the right shape.

    The weights are held where the network runs.
    """

    run: Run
    networks: Sequence[Weights]
    like: Shaped[Tensor, "few ..."]

    def __post_init__(self) -> None:
        object.__setattr__(self, "networks", [placed_for(self.run, weights) for weights in self.networks])

    @property
    def shape(self) -> tuple[int, ...]:
        """One input's."""
        return tuple(self.like.shape[1:])

    @torch.no_grad()
    def outputs(self, x: Shaped[Tensor, "batch ..."]) -> list[Tensor]:
        """What every network gives.

        Raises:
            NonFiniteError: one gives NaN or Inf. DataError: it does not run.
        """
        outputs = [self.run(weights, x) for weights in self.networks]
        for out in outputs:
            if out.is_floating_point() and not torch.isfinite(out).all():
                raise NonFiniteError(
                    "a network gives NaN or Inf on dreamed inputs.",
                    "give real examples, --data, or leave inputs out, --no-dream.",
                )
        return outputs


def optimised(
    loss: Callable[[Tensor], Tensor], start: Float[Tensor, "batch ..."], steps: int,
    progress: Progress = SILENT,
) -> Float[Tensor, "batch ..."]:  # fmt: skip
    """The inputs after some steps of Adam on the inputs alone, at a falling rate.

    Raises:
        DataError: the loss has no gradients.
    """
    x = start.clone().requires_grad_()
    adam = Adam([x])
    with torch.enable_grad():
        for step in range(steps):
            adam.step(slopes(loss(x), [x]), _RATE * (1 - 0.9 * step / max(1, steps)))
            progress(1)
    return x.detach().cpu()
