"""How far apart networks are in function: fields by their values, classifiers by their answers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import kl_div, log_softmax

from deepalign_cli.models.designs import Design
from deepalign_cli.train.zoo_losses import unstacked

_STACKED_MATRIX = 3  # axes
_RANGE = 2.0  # fields are learned in [-1, 1]


def outputs_of(
    design: Design, weights: Mapping[str, Tensor], x: Float[Tensor, "n ..."]
) -> Float[Tensor, "networks n out"]:
    """What every network of a stack says of the same inputs."""
    if all(w.ndim <= _STACKED_MATRIX for w in weights.values()):
        return torch.as_tensor(vmap(lambda w: design(w, x))(dict(weights)))
    return torch.stack([design(one, x) for one in unstacked(weights)])


def field_error(written: Float[Tensor, "k n 1"], read: Float[Tensor, "k n 1"]) -> Float[Tensor, " k"]:
    """Each network's mean squared difference of values."""
    return (written - read).square().mean((1, 2))


def answer_error(
    written: Float[Tensor, "k n classes"], read: Float[Tensor, "k n classes"], temperature: float
) -> Float[Tensor, " k"]:
    """Each network's T^2 KL(softmax(read / T) || softmax(written / T)), the mean over the inputs."""
    student, teacher = (log_softmax(y / temperature, dim=-1) for y in (written, read))
    return temperature**2 * kl_div(student, teacher, reduction="none", log_target=True).sum(-1).mean(1)


def psnr(error: float) -> float:
    """The peak signal-to-noise ratio of a field in decibels: 10 log10(range^2 / mean squared error)."""
    return 10 * float(torch.tensor(_RANGE**2 / max(error, 1e-12)).log10())
