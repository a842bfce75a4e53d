"""Dreaming inputs of the networks that a command is given, and making a data set of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deepalign_cli.aligners.evidence import Dreamt
from deepalign_cli.checkpoint import Checkpoint, check_output
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.data.dataset import Data, Part
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.dreams.dream import (
    USUAL,
    Budget,
    Dreams,
    Topic,
    ample_budget,
    class_budget,
    dream,
    quick_budget,
    topic_of,
)
from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.errors import DeepalignError, MissingExtra, UsageError
from deepalign_cli.measure.losses import ToParents
from deepalign_cli.models.lookup import Network
from deepalign_cli.models.on_device import on_device
from deepalign_cli.models.runnable import Runnable
from deepalign_cli.models.scores import are_scores
from deepalign_cli.models.subject import subject_of
from deepalign_cli.operations.run_device import run_device
from deepalign_cli.operations.run_settings import DREAM, RunSettings
from deepalign_cli.operations.settings import Settings
from deepalign_cli.operations.testbed import Testbed, open_testbed
from deepalign_cli.plots.contact_sheet import contact_sheet, images_in
from deepalign_cli.progress import SILENT, Progress

MOST_ENTRIES = 2**25  # of a network that dreams without being asked to
MOST_TRAINED = 2**21  # of one whose alignment is then trained on dreams


class Dreamer:
    """Dreams inputs of checkpoints of one network, once, and makes a testbed of them.

    `network` opens it. Labels are what the networks give on average: no others are to be had. `is_asked` says
    that the user wants dreams; others are fewer where networks are large, and given up where anything is in
    their way.
    """

    def __init__(
        self, checkpoints: Sequence[Checkpoint], running: RunSettings, settings: Settings,
        network: Callable[[], Network], *, is_asked: bool,
    ) -> None:  # fmt: skip
        self.checkpoints, self.running, self.settings = checkpoints, running, settings
        self.is_asked = is_asked
        self._network = network
        self._check()
        self._testbed: tuple[Testbed, Dreams] | None = None
        self._is_trained_on = False

    def _check(self) -> None:
        """Refuse what says how data are read. Raises UsageError."""
        for name in ("normalise", "side", "grey", "splits"):
            if self.is_asked and getattr(self.running, name):
                option = f"--{name.removesuffix('s') if name == 'splits' else name}"
                raise UsageError(f"{option} has no effect on dreams.", "leave it out.")

    @property
    def is_cheap(self) -> bool:
        """Whether the networks are so small that dreams are worth their time without being asked for."""
        return self._entries <= MOST_ENTRIES

    @property
    def may_train(self) -> bool:
        """Whether the networks may be so small that an alignment is trained on their dreams unasked."""
        return self._entries <= MOST_TRAINED

    @property
    def _entries(self) -> int:
        return sum(info.numel for info in self.checkpoints[0].infos.values())

    def testbed(self, progress: Progress = SILENT) -> Testbed:
        """The network and the dreams, with the divergence from the networks' outputs as the loss.

        Raises:
            SpecError: the network is not known. UsageError: the shape of its inputs is not.
            DataError: it does not run on them. NonFiniteError: it gives NaN or Inf.
        """
        return self._dreamt(progress)[0]

    def evidence(
        self, progress: Progress = SILENT, *, trained_on: bool = False,
        leaves_classes: Callable[[], bool] = bool,
    ) -> Dreamt | None:  # fmt: skip
        """The same for methods; None where nobody asks for dreams, and they would be of no great use.

        `trained_on` says that the method is one that trains on them, by gradients of what units compute;
        `leaves_classes` that nothing will be trained on those of classes.

        Raises:
            DeepalignError: as `testbed`, where dreams are asked for.
        """
        if not self.is_asked and not self._is_useful(trained_on=trained_on, leaves_classes=leaves_classes):
            return None
        try:
            self._is_trained_on = trained_on
            if trained_on and self._topic is Topic.CLASSES:  # on which networks are too sure to tell much
                self._topic = Topic.NOISE
            testbed, dreams = self._dreamt(progress)
        except DeepalignError:
            if self.is_asked:
                raise
            return None
        topic = dreams.topic
        return Dreamt(testbed.evidence, dreams.says, topic.shows, topic is Topic.STATISTICS, topic.trains)

    def _is_useful(self, *, trained_on: bool, leaves_classes: Callable[[], bool]) -> bool:
        """Whether dreams are worth their time, as far as it is known what the network is."""
        try:
            if self._topic.shows or trained_on or not self._topic.trains:
                return self._topic.shows
            return self._of_classes is not None and not leaves_classes()
        except DeepalignError:
            return False

    @cached_property
    def _of_classes(self) -> Budget | None:
        return class_budget(self._ensemble)

    @cached_property
    def _ensemble(self) -> Ensemble:
        network = self._network()
        like = _first_inputs(network, self.checkpoints[0], self.running)
        run = on_device(network.run, run_device(self.running))
        return Ensemble(run, [dict(one) for one in self.checkpoints], like)

    @property
    def _budget(self) -> Budget:
        """As the user says; where nobody asks for dreams, no more than the networks can afford."""
        usual = USUAL if self.is_asked else quick_budget(self._ensemble.shape, self._entries)
        if self._topic is Topic.CLASSES:
            usual = self._of_classes or usual
        if self._is_trained_on and self._topic in (Topic.NOISE, Topic.TEXT):
            usual = ample_budget(self._topic, self._ensemble.shape, self._entries)
        return Budget(self.running.dream or usual.count, self.running.dream_steps or usual.steps)

    @cached_property
    def _topic(self) -> Topic:
        return topic_of(self._ensemble)

    def _dreamt(self, progress: Progress) -> tuple[Testbed, Dreams]:
        """What was dreamed, if there is enough of it."""
        if self._testbed is None or len(self._testbed[1].inputs) < self._budget.count:
            network, reference = self._network(), self.checkpoints[0]
            dreams = dream(self._ensemble, self._topic, self._budget, self.settings.seed, progress)
            if self.running.save_dreams is not None:
                save(dreams, self.running.save_dreams, force=self.settings.force)
            data, loss = _with_targets(dreams.inputs, self._ensemble.outputs(dreams.inputs))
            running = replace(self.running, data=DREAM)
            testbed = open_testbed(reference, running, measured=False, network=network, data=data, loss=loss)
            says = (testbed.says[0], f"inputs: {dreams.says}", *testbed.says[1:])
            self._testbed = replace(testbed, says=says), dreams
        return self._testbed


def _with_targets(inputs: Tensor, outputs: Sequence[Tensor]) -> tuple[Data, ToParents]:
    """Inputs as data with the networks' mean outputs as labels, and the loss that measures against these."""
    of_classes = are_scores(inputs, outputs[0])
    targets = ToParents(of_classes).targets(outputs)
    loss = ToParents(of_classes, 1.0 if of_classes else float(targets.var().clamp(min=1e-30)))
    part = Part(inputs, targets)
    return Data(DREAM, "", {"": part}, torch.arange(len(part)), Preparation()), loss


def _first_inputs(network: Network, checkpoint: Checkpoint, running: RunSettings) -> Tensor:
    """A few inputs of the right shape and type: as the user says, the network's own, or found by trying."""
    if running.input_shape is None and network.input_shape is not None:
        return torch.zeros(2, *network.input_shape)
    run = network.run.run if isinstance(network.run, Runnable) else network.run
    example = subject_of(run, checkpoint, running.input_shape).example
    first = next(iter(example.tensors()), None)
    if first is None:
        raise UsageError("nothing says what the network's inputs look like.", "add --input-shape 3x32x32.")
    return first


def check_saving(path: Path, inputs: Sequence[Path], *, force: bool) -> None:
    """Refuse, before any work, what dreams could not be saved to. Raises UsageError, OutputError."""
    if path.suffix.lower() != ".npz":
        hint = f"write --save-dreams {path.with_suffix('.npz')}"
        raise UsageError(f"'{path}' would be an .npz file, which its name does not say.", hint)
    for one in (path, path.with_suffix(".png")):
        check_output(one, force=force, inputs=inputs)


def save(dreams: Dreams, path: Path, *, force: bool) -> None:
    """Write dreams as an .npz that `--data` reads, and those of images as a picture beside it.

    Raises:
        OutputError: a file cannot be written.
    """
    stored = io.BytesIO()
    np.savez(stored, inputs=dreams.inputs.numpy())
    write_bytes(path, stored.getvalue(), force=force)
    images = images_in(dreams.inputs)
    if images is not None:
        with suppress(MissingExtra):  # whoever has no matplotlib can do without the picture
            write_bytes(path.with_suffix(".png"), contact_sheet(images), force=force)
