"""What an aligner is trained on (Navon et al., ICML 2024, section 5): three losses of two networks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.network.soft import soft_act
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.train.tasks import Examples
from deepalign_cli.train.zoo_files import Family
from deepalign_cli.train.zoo_losses import batch_of, losses

Stack = Mapping[str, Float[Tensor, "batch ..."]]
Projected = Mapping[str, Float[Tensor, "batch n n"]]


def planted_loss(logs: Projected) -> Float[Tensor, ""]:
    """The cross-entropy of the true partner, both ways, where place i of both networks is one unit.

    The aligner is equivariant, so a copy need not be permuted for this: planting g in the copy moves the
    columns of the prediction, and the loss with them, by g.
    """
    return torch.stack([-log.diagonal(dim1=1, dim2=2).mean() for log in logs.values()]).mean()


def noisy(weights: Stack, rng: torch.Generator, most: float = 0.3) -> dict[str, Tensor]:
    """A copy with Gaussian noise of up to `most` standard deviations and up to a tenth of entries dropped."""
    copy = dict(weights)
    for name, w in weights.items():
        if not is_statistic(name):
            size = [len(w)] + [1] * (w.ndim - 1)
            amount = torch.rand(size, generator=rng) * most * w.std()
            mask = torch.rand(w.shape, generator=rng) >= 0.1 * torch.rand(size, generator=rng)
            noise = torch.randn(w.shape, generator=rng) * amount
            copy[name] = (w + noise) * (mask if w.ndim > 2 else 1)
    return copy


def distance_loss(a: Stack, b: Stack, moved: Stack) -> Float[Tensor, ""]:
    """|A - P B|^2 over |A - B|^2, over all trained tensors, mean over the pairs."""

    def energy(x: Stack) -> Float[Tensor, " batch"]:
        parts = [(x[n] - a[n]).square().flatten(1).sum(1) for n in a if not is_statistic(n)]
        return torch.stack(parts).sum(0)

    return (energy(moved) / energy(b)).mean()


def path_loss(
    family: Family, examples: Examples, a: Stack, moved: Stack, member: Int64[Tensor, " batch"],
    rng: torch.Generator, images: int, half: bool = False,
) -> Float[Tensor, ""]:  # fmt: skip
    """The task's loss on a random batch at a random place of the path, alpha uniform in [.2, .8]."""
    count = len(member)
    alpha = 0.2 + 0.6 * torch.rand(count, generator=rng)
    mixed = {n: a[n] + alpha.reshape(-1, *[1] * (a[n].ndim - 1)) * (moved[n] - a[n]) for n in a}
    rows = torch.randint(len(examples.train_x), (count, images), generator=rng)
    x, y = batch_of(examples, family.task, rows, member)
    return losses(family.design, family.task, mixed, x, y, half).mean()


def carried(symmetry: Symmetry, matrices: Projected, b: Stack) -> dict[str, Tensor]:
    """B's tensors under soft or hard permutations."""
    return {name: soft_act(symmetry, matrices, name, w) for name, w in b.items()}
