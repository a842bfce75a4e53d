"""Loss and accuracy along straight paths between networks, for all paths in one pass over the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from deepalign_cli.data.dataset import Data
from deepalign_cli.errors import DataError, NonFiniteError
from deepalign_cli.measure.curve import Curve
from deepalign_cli.measure.losses import Loss
from deepalign_cli.models.on_device import placed_for
from deepalign_cli.models.run import Run
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.symmetry.tensors import all_widened, is_mixed, widened

# Bytes of inputs that are read at once: weights are mixed once for each piece, which costs next to nothing.
_READ = 256 * 2**20

Correct = Callable[[dict[str, Tensor], float], Weights]
Along = Callable[[float], Callable[[str, Sequence[Tensor]], Tensor]]


@dataclass(frozen=True)
class NetworkPath:
    """A straight path from the reference to one moved network.

    `moved` is in the reference's units, and `correct` repairs the mixed network at an alpha. `along` makes
    the network at an alpha where the path is not straight.
    """

    method: str
    moved: Weights
    seconds: float = 0.0
    correct: Correct | None = None
    along: Along | None = None


@dataclass
class Tally:
    """Losses and right answers so far. `right` is None where there is nothing to be right about."""

    loss: float = 0.0
    right: float | None = 0.0
    count: int = 0

    def add(self, loss: float, right: float | None, count: int) -> None:
        self.loss += loss
        self.right = None if right is None or self.right is None else self.right + right
        self.count += count

    @property
    def mean(self) -> float:
        """The mean loss. Raises DataError where nothing counted."""
        if not self.count:
            raise DataError("no example has a label that counts.", "check that the labels are not all -100.")
        return self.loss / self.count

    @property
    def accuracy(self) -> float | None:
        return None if self.right is None else self.right / max(1, self.count)


def alphas_of(points: int) -> tuple[float, ...]:
    """Evenly spaced from 0 to 1, both included."""
    return tuple(i / (points - 1) for i in range(points))


@torch.no_grad()
def measure(
    run: Run, reference: Weights, paths: Sequence[NetworkPath], data: Data, loss: Loss,
    alphas: Sequence[float], batch_size: int = 1000, progress: Progress = SILENT,
) -> list[Curve]:  # fmt: skip
    """The curve of every path. `progress` goes from 0 to 1.

    One network after another is run on each piece of the data: on CPUs running all points at once under
    `vmap` is slower but for the smallest networks (`benchmarks/barrier.py`). What is not repaired shares its
    measurement at alpha 0.
    """
    tallies = [[Tally() for _ in alphas] for _ in paths]
    wide = all_widened(reference)
    room: dict[str, Tensor] = {}
    plain = [i for i, path in enumerate(paths) if path.correct is None]
    for piece in _pieces(data, batch_size):
        examples = sum(len(x) for x, _ in piece)
        for i, path in enumerate(paths):
            for j, alpha in enumerate(alphas):
                if alpha or i not in plain[1:]:
                    mixed = _corrected(path, _mixed(wide, path, alpha, room), alpha)
                    if mixed is None:
                        tallies[i][j].add(math.nan, math.nan, examples)
                    else:
                        tally(run, mixed, piece, loss, tallies[i][j])
                progress(examples / len(data) / len(paths) / len(alphas))
    for j, alpha in enumerate(alphas):
        for i in plain[1:] if not alpha else ():
            tallies[i][j] = tallies[plain[0]][j]
    return [_curve(path, alphas, row, data.name) for path, row in zip(paths, tallies, strict=True)]


def _mixed(a: Weights, path: NetworkPath, alpha: float, room: dict[str, Tensor]) -> dict[str, Tensor]:
    if path.along is None:
        return mix(a, path.moved, alpha, room)
    combine = path.along(alpha)
    return {name: combine(name, [w, path.moved[name]]) for name, w in a.items()}


def mix(a: Weights, b: Weights, alpha: float, room: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
    """(1 - alpha) A + alpha B; integers are A's. `room` keeps what is allocated from call to call."""
    room, mixed = {} if room is None else room, dict(a)
    for name, w in a.items():
        if is_mixed(w):
            start = widened(w) if w.itemsize == 1 else w  # in 8 bits nothing can be computed
            if name not in room:
                room[name] = torch.empty_like(start)
            mixed[name] = torch.lerp(start, b[name].to(start.dtype), alpha, out=room[name])
    return mixed


def _corrected(path: NetworkPath, mixed: dict[str, Tensor], alpha: float) -> Weights | None:
    """The mixed network, repaired if asked for; None where its activations are not finite."""
    if path.correct is None:
        return mixed
    try:
        return path.correct(dict(mixed), alpha)
    except NonFiniteError:
        return None


def tally(
    run: Run, weights: Weights, batches: Sequence[tuple[Tensor, Tensor | None]], loss: Loss, total: Tally
) -> None:
    """Run one network on some batches and add up."""
    weights = placed_for(run, weights)
    for x, labels in batches:
        loss_sum, right, count = loss(run(weights, x), x if labels is None else labels)
        total.add(float(loss_sum), right, count)


def _pieces(data: Data, batch_size: int) -> Iterator[list[tuple[Tensor, Tensor | None]]]:
    """The data, as many batches at a time as go into `_READ`."""
    batches = iter(data.batches(batch_size))
    while first := list(islice(batches, 1)):
        size = max(1, first[0][0].nbytes)
        yield [*first, *islice(batches, max(0, _READ // size - 1))]


def _curve(path: NetworkPath, alphas: Sequence[float], tallies: Sequence[Tally], data: str) -> Curve:
    shares = tuple(t.accuracy for t in tallies if t.accuracy is not None)
    accuracies = shares if len(shares) == len(tallies) else None
    return Curve(path.method, tuple(alphas), tuple(t.mean for t in tallies), accuracies, path.seconds, data)
