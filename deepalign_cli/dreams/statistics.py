"""Dreams of BatchNorm: its running statistics remember what every layer saw in training."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from deepalign_cli.dreams.ensemble import Ensemble, optimised
from deepalign_cli.dreams.norm_apart import norm_apart
from deepalign_cli.models.calls import Call, Calls, LayerKind, NormCall
from deepalign_cli.models.on_device import runs_on
from deepalign_cli.models.run import Run
from deepalign_cli.processor import multiplies_halves
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Weights


class Remembering(Calls):
    """Runs a network and takes, at every BatchNorm, how far the batch is from what the norm remembers."""

    def __init__(self, weights: Weights) -> None:
        super().__init__(weights)
        self.apart: list[Tensor] = []

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

    def layer(self, call: Call) -> Tensor:
        """A convolution runs in bfloat16 where that is fast: a step's direction needs no more."""
        on_cpu = call.input.device.type == "cpu"
        if call.layer is LayerKind.CONV and self._dtype is torch.float32 and on_cpu and multiplies_halves():
            with torch.autocast("cpu", torch.bfloat16):
                return call.output().float()
        return call.output()

    def mismatch(self, run: Run, x: Float[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        """The sum over all norms, through which gradients flow (Yin et al. 2020, DeepInversion, eq. 4)."""
        self.apart.clear()
        self.differentiably(run, x)
        return torch.stack(self.apart).sum() if self.apart else x.new_zeros(())


@torch.no_grad()
def norms_in(ensemble: Ensemble) -> int:
    """How many BatchNorms with running statistics one of the networks passes its inputs through."""
    network = Remembering(ensemble.networks[0])
    network.mismatch(ensemble.run, ensemble.like)
    return len(network.apart)


def dream_of_statistics(ensemble: Ensemble, start: Tensor, steps: int, progress: Progress = SILENT) -> Tensor:
    """Inputs that look, layer by layer, like what all the networks were trained on."""
    networks = [Remembering(weights) for weights in ensemble.networks]

    def loss(x: Tensor) -> Tensor:
        return torch.stack([network.mismatch(ensemble.run, x + 0) for network in networks]).sum()

    return optimised(loss, start.to(runs_on(ensemble.run)), steps, progress)
