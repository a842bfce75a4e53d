"""What networks are run as and on, opened and ready to be run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from deepalign_cli.aligners.choice import Judge
from deepalign_cli.aligners.evidence import Evidence
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.data.dataset import Data, Part
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.data.sources import Wanted, load_data
from deepalign_cli.errors import DataError, UsageError
from deepalign_cli.measure.losses import Loss, pick_loss
from deepalign_cli.measure.paths import Tally, mix, tally
from deepalign_cli.models.batch_size import MOST, run_and_size
from deepalign_cli.models.lookup import Network, network_for
from deepalign_cli.models.on_device import on_device
from deepalign_cli.models.run import Batches, Run
from deepalign_cli.operations.run_device import run_device
from deepalign_cli.operations.run_settings import RunSettings
from deepalign_cli.repair import BatchStatistics, frozen_statistics, reestimated
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensor_names import is_statistic

_TRIED = 8
SEEN = "the data have one split: matching, choosing or repairing used the same examples as the measurement"
MATCHED_ON = 5000
REPAIRED_ON = 2000
_JUDGED_ON = 2000
_STATISTICS_SIZE = 128  # at least so many at a time: BatchNorm's estimates from a small batch are poor


@dataclass(frozen=True)
class Testbed:
    """A network to run, the sets that it is measured on, training examples, and the loss.

    `loss` is None where the data have no labels. `statistics_size` is how many examples are run at a time
    where batches have their own BatchNorm. `says` are sentences on what was chosen: the architecture, and
    the loss and why.
    """

    run: Run
    sets: tuple[Data, ...]
    training: Data
    loss: Loss | None
    batch_size: int
    statistics_size: int
    samples: int | None
    says: tuple[str, ...]

    @cached_property
    def evidence(self) -> Evidence:
        """The training examples that units are matched on, and the loss on them."""
        matched = self.training.head(self.samples or MATCHED_ON)
        batches = self.batches(matched)
        if self.loss is None:
            return Evidence(self.run, batches, examples=len(matched))
        loss = _LossOnTraining(self.run, self.training, self.loss)
        return Evidence(self.run, batches, self.judge, loss, len(matched))

    @property
    def sees_only_tests(self) -> bool:
        """Whether the data have one split, so that training examples are those that are measured."""
        return len(self.training.parts) == 1

    @property
    def measure(self) -> Loss:
        """The loss, where there is one. Raises DataError where there is none."""
        if self.loss is None:
            raise DataError("the data have no labels to measure a loss by.", "add them, or give --loss.")
        return self.loss

    @property
    def repair_data(self) -> Data:
        """The training examples that statistics are repaired on."""
        return self.training.head(self.samples or REPAIRED_ON)

    @property
    def repaired_on(self) -> Batches:
        """Their inputs."""
        return self.batches(self.repair_data, self.statistics_size)

    @property
    def repair_size(self) -> int:
        """How many of them are run at a time: what repair makes of them depends on it a little."""
        return _even(len(self.repair_data), self.statistics_size)

    def batches(self, part: Data, most: int | None = None) -> Batches:
        """The inputs of some examples, at most so many at a time."""
        size = _even(len(part), most or self.batch_size)
        return lambda: part.inputs(size)

    def frozen(self, weights: Weights) -> list[str]:
        """The statistics of norms that the network does not compute from batches."""
        return frozen_statistics(self.run, weights, next(self.training.inputs(_TRIED)))

    @torch.no_grad()
    def check_steady(self, weights: Weights) -> None:
        """Check that the network gives the same outputs for the same inputs. Raises DataError where not."""
        x = next(self.training.inputs(_TRIED))
        first, second = self.run(weights, x), self.run(weights, x)
        if not torch.allclose(first, second, rtol=1e-4, atol=1e-6, equal_nan=True):
            hint = "remove what is random: F.dropout, say, needs training=self.training."
            raise DataError("the network returns other outputs each time it is run.", hint)

    def settled(self, weights: Weights, part: Data) -> Weights:
        """With BatchNorm, if there is any, re-estimated on some examples."""
        if not any(map(is_statistic, weights)):
            return weights
        return {**weights, **reestimated(self.run, weights, self.batches(part, self.statistics_size))}

    @torch.no_grad()
    def tally(self, weights: Weights, data: Data) -> Tally:
        """The loss and accuracy of one network on some data."""
        total = Tally()
        tally(self.run, weights, list(data.batches(self.batch_size)), self.measure, total)
        return total

    def judge(self, symmetry: Symmetry, reference: Weights, moving: Weights) -> Judge:
        """The loss at the midpoint of the path to a moved network, on training examples.

        BatchNorm is re-estimated: averaged statistics say nothing about an alignment.
        """
        part = self.training.head(_JUDGED_ON)

        @torch.no_grad()
        def loss(element: Element) -> float:
            middle = mix(reference, Acted(symmetry, element, moving), 0.5)
            return self.tally(self.settled(middle, part), part).mean

        return loss


@dataclass(frozen=True)
class _LossOnTraining:
    """`TrainingLoss` by a loss on a set."""

    run: Run
    data: Data
    loss: Loss

    def __len__(self) -> int:
        return len(self.data)

    def __call__(self, weights: Weights, places: Int64[Tensor, " batch"]) -> Float64[Tensor, ""]:
        some = replace(self.data, rows=self.data.rows[places])
        x, labels = next(some.batches(len(places)))
        outputs = BatchStatistics(weights).differentiably(self.run, x)
        total, _, count = self.loss(outputs, x if labels is None else labels)
        return total / count


def open_testbed(
    reference: Checkpoint, running: RunSettings, activation: Activation | None = None, *,
    measured: bool = True, network: Network | None = None, data: Data | None = None,
    loss: Loss | None = None,
) -> Testbed:  # fmt: skip
    """Find the architecture, open the data, and pick the loss by running the reference on a few examples.

    Where nothing is to be `measured`, data without labels will do; there is no loss then to judge by.
    `network` and `data` are those of the settings, where they are open already, and `loss` what the data are
    made for.

    Raises:
        UsageError: no data are named, or there is no such device.
        DeepalignError: model, data and loss do not fit one another.
    """
    if running.data is None:
        raise UsageError("nothing can be run without data.", "add --data mnist.npz (docs/data.md).")
    network = network or network_for(
        reference, running.model, args=running.arguments, options=running.design,
        activation=activation.value if activation else None,
    )  # fmt: skip
    run = on_device(network.run, run_device(running))
    splits = tuple(dict.fromkeys(running.splits))
    first = data or load_inputs(running, splits[0] if splits else None, network.preparation)
    sets = (first, *(first.on(split, running.limit) for split in splits[1:]))
    loss, why, size = _fitting_loss(running.loss, run, reference, sets, needed=measured, known=loss)
    words = f"loss: {loss.name}{why and f', {why}'}" if loss else why
    says = [f"run as {network.says}", *_prepared(first), words]
    training = first.training()
    size = running.batch_size or size
    statistics_size = running.batch_size or max(size, _STATISTICS_SIZE)
    return Testbed(run, sets, training, loss, size, statistics_size, running.samples, tuple(says))


def _even(count: int, most: int) -> int:
    """Examples in a batch: the last is not much smaller than the others, and never one alone.

    Its own statistics would be poor.
    """
    size = -(-count // -(-count // most))
    while size > 2 and count % size == 1:
        size -= 1
    return size


def load_inputs(running: RunSettings, split: str | None, declared: Preparation | None) -> Data:
    """The named data, prepared as the user says, or as is `declared` with the network."""
    assert running.data is not None
    wanted = Wanted(running.normalise, running.side, running.grey)
    return load_data(running.data, split, wanted=wanted, declared=declared, limit=running.limit)


def _fitting_loss(
    name: str | Callable[..., Any] | None, run: Run, reference: Checkpoint, sets: Sequence[Data], *,
    needed: bool, known: Loss | None = None,
) -> tuple[Loss | None, str, int]:  # fmt: skip
    """The loss, why it is this one, and how many examples to run at a time.

    It is tried on a few examples of every set, so that what does not fit is known before any work.

    Raises:
        DataError: the network's outputs do not fit the labels, or there are none and a loss is `needed`.
    """
    loss = None if name else known
    weights, size = dict(reference), MOST
    why = "" if loss else "no loss: the data have no labels"
    for data in sets:
        x, labels = next(_telling(data).batches(_TRIED + 2))
        outputs, most = run_and_size(run, weights, x)
        size = min(size, most)
        if loss is None and (needed or name or labels is not None):
            loss, why = pick_loss(name, x, labels)
        if loss is not None:
            loss(outputs, x if labels is None else labels)
    return loss, why, size


def _telling(data: Data) -> Data:
    """A few examples, among them those of the lowest and the highest label."""
    few = data.head(_TRIED)
    labels = data.part.labels if isinstance(data.part, Part) else None
    if labels is None or labels.ndim != 1 or labels.is_floating_point():
        return few
    labels = labels[data.rows]
    extremes = data.rows[[int(labels.argmin()), int(labels.argmax())]]
    return replace(few, rows=torch.cat([few.rows, extremes]))


def _prepared(data: Data) -> list[str]:
    """How the inputs are prepared, if they are."""
    how = data.preparation
    words = ["grey"] if how.grey else []
    words += [f"pooled to {how.side}x{how.side}"] if how.side else []
    if how.mean:
        mean, std = (", ".join(f"{v:.4g}" for v in part) for part in (how.mean, how.std))
        words.append(f"less the mean {mean}, divided by {std}")
    return [f"inputs: {', '.join(words)}"] if words else []
