"""Many networks of one design at once, their weights stacked: batches, losses, statistics and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from deepalign_cli.models.designs import Design
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.train.tasks import Examples, Task

_STATISTICS_IMAGES = 2000
_STACKED_MATRIX = 3  # axes


def batch_of(
    examples: Examples, task: Task, rows: Int64[Tensor, "networks batch"], member: Int64[Tensor, " networks"]
) -> tuple[Tensor, Tensor]:
    """Inputs and answers of some training examples for every network."""
    answers = examples.train_y
    return examples.train_x[rows], answers[member[:, None], rows] if task.field else answers[rows]


def losses(
    design: Design, task: Task, weights: Mapping[str, Tensor], x: Tensor, y: Tensor, half: bool = False
) -> Float[Tensor, " networks"]:
    """The training loss of every network on its own batch: cross-entropy, or a field's squared error.

    The cross-entropy of text is the mean over all places.

    With `half`, convolutions and products are computed in bfloat16.
    """

    def one(w: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            out = design(w, x, {}).float()
        if task.field:
            return functional.mse_loss(out[:, 0], y)
        return functional.cross_entropy(out.flatten(0, -2), y.flatten())

    if all(w.ndim <= _STACKED_MATRIX for w in weights.values()):
        return torch.as_tensor(vmap(one)(dict(weights), x, y))
    # A CPU gains nothing from batching the convolutions of several networks.
    order = torch.contiguous_format if half else torch.channels_last  # what is faster
    batches = (images.contiguous(memory_format=order) for images in x)
    return torch.stack([one(*parts) for parts in zip(unstacked(weights), batches, y, strict=True)])


def unstacked(weights: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The weights of one network after another."""
    for part in zip(*(w.unbind() for w in weights.values()), strict=True):
        yield dict(zip(weights, part, strict=True))


@torch.no_grad()
def statistics_of(design: Design, weights: Mapping[str, Tensor], examples: Examples) -> dict[str, Tensor]:
    """BatchNorm's running statistics of the finished networks, over some training images."""
    if not any(map(is_statistic, weights)):
        return {}

    statistics = {name: w.clone() for name, w in weights.items() if is_statistic(name)}
    for network, of_one in zip(unstacked(weights), unstacked(statistics), strict=bool(statistics)):
        design(network, examples.train_x[:_STATISTICS_IMAGES], of_one)
    return statistics


@torch.no_grad()
def scores(
    design: Design, task: Task, weights: Mapping[str, Tensor], examples: Examples, member: Tensor
) -> Float[Tensor, " networks"]:
    """Every network's test accuracy (of text, over all places); for a field, minus its mean squared error."""

    def score(out: Tensor, image: Tensor) -> Tensor:
        if task.field:
            return -(out[:, 0] - examples.test_y[image]).square().mean()
        return (out.argmax(-1) == examples.test_y).float().mean()

    networks = zip(unstacked(weights), member, strict=True)
    return torch.stack([score(design(network, examples.test_x), image) for network, image in networks])
