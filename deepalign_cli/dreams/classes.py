"""Dreams of classes: inputs of a random class each, with a share of a second one.

On inputs that every network is sure of, outputs hardly tell one alignment from another; near the borders
between classes they do.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.dreams.ensemble import Ensemble, optimised
from deepalign_cli.models.on_device import runs_on
from deepalign_cli.progress import SILENT, Progress

_DECAY, _MOST_DECAY = 0.01, 4.0  # of each number's square, and of their mean square
_LEAST_SHARE = 0.5  # of the first class


def dream_of_classes(
    ensemble: Ensemble, start: Tensor, steps: int, rng: torch.Generator, progress: Progress = SILENT
) -> Tensor:
    """Inputs on which the networks' cross-entropy to a random mixture of two classes each is low."""
    classes = ensemble.outputs(ensemble.like)[0].shape[1]
    first, second = torch.randint(classes, (2, len(start)), generator=rng)
    share = _LEAST_SHARE + (1 - _LEAST_SHARE) * torch.rand(len(start), generator=rng)
    chances = torch.zeros(len(start), classes)
    for labels, part in ((first, share), (second, 1 - share)):
        chances[torch.arange(len(start)), labels] += part

    decay = min(_MOST_DECAY, _DECAY * start[0].numel())

    def loss(x: Tensor) -> Tensor:
        outputs = (ensemble.run(weights, x + 0) for weights in ensemble.networks)
        total = torch.stack([functional.cross_entropy(out, chances.to(out)) for out in outputs]).sum()
        return total.cpu() + decay * x.square().mean().cpu()

    return optimised(loss, start.to(runs_on(ensemble.run)), steps, progress)
