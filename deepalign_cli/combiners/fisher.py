"""Fisher merging (Matena and Raffel 2022, arXiv 2111.09832): weights count by what outputs depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from deepalign_cli.combiners.example_gradients import SquaredGradients
from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.models.on_device import placed_for
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import is_trained, narrowed, widened

_FLOOR = 1e-6  # of the mean information: where no network has any, the average is plain


@dataclass(frozen=True)
class FisherMean:
    """sum_i weights[i] F_i a_i / sum_i weights[i] F_i, entry by entry.

    F_i is the diagonal of network i's Fisher information. `statistics` has F_i for each network, by tensor;
    where there is none for a tensor, it is averaged.
    """

    weights: Sequence[float]
    statistics: Sequence[Mapping[str, Tensor]] = ()

    def __call__(self, name: str, tensors: Sequence[Shaped[Tensor, "*shape"]]) -> Shaped[Tensor, "*shape"]:
        known = self.statistics and all(name in one for one in self.statistics)
        if not known or not is_trained(name, tensors[0]):
            return WeightedMean(self.weights)(name, tensors)
        floor = _FLOOR * float(torch.stack([one[name].mean() for one in self.statistics]).mean()) or 1.0
        shares = [w * (one[name] + floor) for w, one in zip(self.weights, self.statistics, strict=True)]
        total = sum(shares, torch.zeros_like(shares[0]))
        mean = sum((s * widened(w) for s, w in zip(shares, tensors, strict=True)), torch.zeros_like(total))
        return narrowed(mean / total, tensors[0].dtype, name)


def diagonal_fisher(
    run: Run, weights: Weights, batches: Batches, *, seed: int = 0, values: bool = False
) -> dict[str, Float[Tensor, " ..."]]:
    """The diagonal of the Fisher information, E_x E_y (d log p(y|x) / d w)^2, of every trained tensor.

    y is drawn from the network's own outputs, once for each example: labels are not looked at. Outputs are
    logits of classes on the last axis (of images, on the second), or with `values`, and where there is one
    only, means of normal distributions of variance 1. Gradients of several examples are taken at once where
    the network allows it.
    """
    rng = torch.Generator().manual_seed(seed)
    weights = placed_for(run, weights)
    leaves = {n: widened(w).detach().clone() for n, w in weights.items() if is_trained(n, w)}

    def likelihood(leaves: Mapping[str, Tensor], x: Tensor, drawn: Tensor) -> Tensor:
        return _log_likelihood(run({**weights, **leaves}, x), drawn, values)

    squares = SquaredGradients(likelihood, leaves)
    sums, count = {name: torch.zeros(w.shape, dtype=w.dtype) for name, w in leaves.items()}, 0
    for batch in batches():
        for x in torch.split(batch, squares.at_a_time):
            with torch.no_grad():
                outputs = run({**weights, **leaves}, x)
            drawn = torch.cat([_drawn(one, rng, values) for one in torch.split(outputs, 1)])
            for name, total in squares(x, drawn).items():
                sums[name] += total
            count += len(x)
    return {name: total / max(count, 1) for name, total in sums.items()}


def _drawn(outputs: Tensor, rng: torch.Generator, values: bool) -> Tensor:
    """What one example's y is drawn by: classes [1, places, 1], or normal noise of the outputs' shape."""
    if _are_values(outputs, values):
        return torch.randn(outputs.shape, generator=rng, dtype=outputs.dtype)
    return torch.multinomial(_logits(outputs).softmax(-1), 1, generator=rng)[None]


def _log_likelihood(outputs: Tensor, drawn: Tensor, values: bool) -> Tensor:
    """Log p(y|x) of one example with the y that was drawn, up to what has no gradient."""
    if _are_values(outputs, values):
        return (outputs * drawn).sum()  # of -(outputs - y)^2 / 2, with y - outputs the noise
    return functional.log_softmax(_logits(outputs), -1).gather(1, drawn[0]).sum()


def _are_values(outputs: Tensor, values: bool) -> bool:
    return values or outputs.shape[-1] == 1


def _logits(outputs: Tensor) -> Tensor:
    """Of one example, by places and classes [places, classes]."""
    return (outputs if outputs.ndim < 4 else outputs.movedim(1, -1)).flatten(0, -2)
