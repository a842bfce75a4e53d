"""The loss along the straight path between two networks of a family, on its test examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensor_names import is_statistic
from deepalign_cli.train.tasks import Examples
from deepalign_cli.train.zoo_files import Family

ALPHAS = torch.linspace(0, 1, 11, dtype=torch.float64)
_STATISTICS_IMAGES = 2000
_CHUNK = 1000

Point = tuple[float, float | None]  # loss and accuracy


@dataclass(frozen=True)
class Path:
    """Losses, and accuracies where the task is a classification, at `ALPHAS` between A and the moved B."""

    points: tuple[Point, ...]

    @property
    def losses(self) -> Tensor:
        return torch.tensor([loss for loss, _ in self.points], dtype=torch.float64)

    @property
    def excess(self) -> Tensor:
        """The loss less the straight line between the ends' losses."""
        return self.losses - torch.lerp(self.losses[0], self.losses[-1], ALPHAS)

    @property
    def barrier(self) -> float:
        return max(0.0, float(self.excess.max()))

    @property
    def area(self) -> float:
        """The integral of the excess, not clipped: a path below the line counts as negative."""
        return float(torch.trapezoid(self.excess, ALPHAS))

    @property
    def midpoint_accuracy(self) -> float | None:
        return self.points[len(self.points) // 2][1]


class Judge:
    """Measures networks of a family; `member` is the image that two fields share."""

    def __init__(self, family: Family, examples: Examples, member: int) -> None:
        self.family, self.examples, self.member = family, examples, member

    def path(self, a: Weights, moved: Weights, ends: tuple[Point, Point]) -> Path:
        """The path whose ends are measured already: moving units changes no network's function."""
        inner = (self.point(mixed(a, moved, float(alpha))) for alpha in ALPHAS[1:-1])
        return Path((ends[0], *inner, ends[1]))

    @torch.no_grad()
    def point(self, weights: Weights) -> Point:
        """Test loss and accuracy, with BatchNorm's statistics re-estimated on training images."""
        x, y = self.examples.test_x, self.examples.test_y
        whole = {**weights, **self._statistics(weights)}
        outputs = torch.cat([self.family.design(whole, _last(part)) for part in x.split(_CHUNK)])
        if self.family.task.field:
            return float(functional.mse_loss(outputs[:, 0], y[self.member])), None
        right = (outputs.argmax(1) == y).double().mean()
        return float(functional.cross_entropy(outputs, y)), float(right)

    def _statistics(self, weights: Weights) -> Mapping[str, Tensor]:
        found = {name: torch.zeros_like(w) for name, w in weights.items() if is_statistic(name)}
        if found:
            self.family.design(weights, _last(self.examples.train_x[:_STATISTICS_IMAGES]), found)
        return found


def mixed(a: Weights, b: Weights, alpha: float) -> dict[str, Tensor]:
    """(1 - alpha) A + alpha B."""
    return {name: torch.lerp(w, b[name], alpha) for name, w in a.items()}


def _last(x: Tensor) -> Tensor:
    """Images with channels last, which convolutions on a CPU are faster with."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
