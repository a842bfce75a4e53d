"""Dreams of BatchNorm: its running statistics remember what every layer saw in training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.dreams.ensemble import Ensemble, optimised
from deepalign_cli.dreams.norm_apart import norm_apart
from deepalign_cli.errors import DeepalignError
from deepalign_cli.models.calls import Calls, NormCall
from deepalign_cli.models.on_device import runs_on
from deepalign_cli.models.run import Run
from deepalign_cli.processor import multiplies_halves
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Weights


class Remembering(Calls):
    """Runs a network and takes, at every BatchNorm, how far the batch is from what the norm remembers.

    In `haste` it runs as is fastest on a processor that multiplies bfloat16: with channels last, and in that
    type what multiplies. A step's direction needs no more digits; but not every network runs so.
    """

    def __init__(self, weights: Weights, *, haste: bool = False) -> None:
        super().__init__({name: _channels_last(w) for name, w in weights.items()} if haste else weights)
        self.apart: list[Tensor] = []
        self._halves = haste and self._dtype is torch.float32

    def batch_norm(self, call: NormCall) -> Tensor:
        """Note the distance of means and deviations, in running deviations, as a mean over the channels.

        The batch's own statistics are used, as in training: dreams are better for it, above all for repair.
        """
        deviation = (self.weights[call.var] + call.eps).sqrt()
        out, apart = norm_apart(
            call.input, call.weight, call.bias, self.weights[call.mean], deviation, call.eps
        )
        self.apart.append(apart)
        return out

    def mismatch(self, run: Run, x: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        """The sum over all norms, through which gradients flow (Yin et al. 2020, DeepInversion, eq. 4)."""
        self.apart.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=self._halves):
            self.differentiably(run, x)
        return torch.stack(self.apart).sum() if self.apart else x.new_zeros(())


def _channels_last(w: Tensor) -> Tensor:
    """An image's kernel laid out so that convolutions with it give channels last, also of one channel."""
    return w.clone(memory_format=torch.channels_last) if w.ndim == 4 else w


@torch.no_grad()
def norms_in(ensemble: Ensemble) -> int:
    """How many BatchNorms with running statistics one of the networks passes its inputs through."""
    network = Remembering(ensemble.networks[0])
    network.mismatch(ensemble.run, ensemble.like)
    return len(network.apart)


def dream_of_statistics(ensemble: Ensemble, start: Tensor, steps: int, progress: Progress = SILENT) -> Tensor:
    """Inputs that look, layer by layer, like what all the networks were trained on."""
    device = runs_on(ensemble.run)
    haste = device.type == "cpu" and multiplies_halves() and _runs_in_haste(ensemble)
    networks = [Remembering(weights, haste=haste) for weights in ensemble.networks]

    def loss(x: Tensor) -> Tensor:
        return torch.stack([network.mismatch(ensemble.run, x + 0) for network in networks]).sum()

    return optimised(loss, start.to(device), steps, progress)


def _runs_in_haste(ensemble: Ensemble) -> bool:
    """Whether a network runs, forward and back; one that views what it takes for contiguous does not."""
    network = Remembering(ensemble.networks[0], haste=True)
    x = ensemble.like.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            torch.autograd.backward(network.mismatch(ensemble.run, x + 0))
    except (DeepalignError, RuntimeError):
        return False
    return x.grad is not None and bool(torch.isfinite(x.grad).all())
