"""Dreams of classes: inputs that all networks are sure of, each of a random class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.dreams.ensemble import Ensemble, optimised
from deepalign_cli.models.on_device import runs_on
from deepalign_cli.progress import SILENT, Progress

_DECAY = 0.01  # of the inputs' mean square


def dream_of_classes(
    ensemble: Ensemble, start: Tensor, steps: int, rng: torch.Generator, progress: Progress = SILENT
) -> Tensor:
    """Inputs on which the networks' cross-entropy to a random class each is low."""
    classes = ensemble.outputs(ensemble.like)[0].shape[1]
    labels = torch.randint(classes, (len(start),), generator=rng)

    def loss(x: Tensor) -> Tensor:
        outputs = (ensemble.run(weights, x + 0) for weights in ensemble.networks)
        total = torch.stack([functional.cross_entropy(out, labels) for out in outputs]).sum()
        return total + _DECAY * x.square().mean().cpu()

    return optimised(loss, start.to(runs_on(ensemble.run)), steps, progress)
