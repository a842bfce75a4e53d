"""Fisher merging (Matena and Raffel 2022, arXiv 2111.09832): weights count by what outputs depend on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from deepalign_cli.combiners.linear import WeightedMean
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
    only, means of normal distributions of variance 1.
    """
    rng = torch.Generator().manual_seed(seed)
    leaves = {n: widened(w).detach().clone() for n, w in weights.items() if is_trained(n, w)}
    network = {**weights, **{name: w.requires_grad_() for name, w in leaves.items()}}
    sums, count = {name: torch.zeros_like(w) for name, w in leaves.items()}, 0
    with torch.enable_grad():
        for batch in batches():
            for x in torch.split(batch, 1):
                likelihood = _log_likelihood(run(network, x), rng, values)
                found = torch.autograd.grad(likelihood, [*leaves.values()], allow_unused=True)
                for name, gradient in zip(leaves, found, strict=True):
                    if gradient is not None:
                        sums[name] += gradient.square()
                count += 1
    return {name: total / max(count, 1) for name, total in sums.items()}


def _log_likelihood(outputs: Tensor, rng: torch.Generator, values: bool) -> Tensor:
    """Log p(y|x) of a y drawn from p, up to what has no gradient."""
    if values or outputs.shape[-1] == 1:
        noise = torch.randn(outputs.shape, generator=rng, dtype=outputs.dtype)
        return (outputs * noise).sum()  # of -(outputs - y)^2 / 2, with y - outputs the noise
    logits = (outputs if outputs.ndim < 4 else outputs.movedim(1, -1)).flatten(0, -2)
    drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=rng)
    return functional.log_softmax(logits, -1).gather(1, drawn).sum()
