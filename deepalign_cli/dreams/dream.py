"""Which inputs to dream: of statistics, of classes, in words, or plain noise, by what the networks are.

Activation matching on inputs that were optimised to look, layer by layer, like what BatchNorm remembers is
nearly as good as on real training images; on noise it is much worse (docs/results.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.dreams.classes import dream_of_classes
from deepalign_cli.dreams.ensemble import Ensemble
from deepalign_cli.dreams.noise import pink_noise
from deepalign_cli.dreams.statistics import dream_of_statistics, norms_in
from deepalign_cli.dreams.writing import is_causal, random_tokens, written
from deepalign_cli.models.scores import are_scores
from deepalign_cli.models.work import work
from deepalign_cli.progress import SILENT, Progress


@dataclass(frozen=True)
class Budget:
    """How many inputs to dream, and in how many steps."""

    count: int
    steps: int


USUAL = Budget(64, 80)  # twice as many inputs are no better, to match units by or to repair statistics on
_HASTY = 40  # steps of networks for which this would take too long where nobody asks for dreams
_WORK = 4e11  # entries of the network x places of all inputs x steps: seconds on a core
_FEWEST = 8  # inputs
_NUMBERS, _MOST_NOISE = 2**24, 4000  # of all noise together, and inputs of it
_CLASSES = Budget(1000, 30)  # fewer would be learnt by heart
_CLASSES_WORK, _FEWEST_OF_CLASSES = 1e11, 400  # as multiplications of all steps; and inputs
_WRITING, _TEXTS = 2**27, (256, 512)  # entries of the network x texts; and the fewest and most of these


class Topic(StrEnum):
    """What networks can dream of."""

    STATISTICS = "what BatchNorm remembers"
    TEXT = "text"
    CLASSES = "classes"
    TOKENS = "random tokens"
    NOISE = "noise"

    @property
    def shows(self) -> bool:
        """Whether outputs on such dreams show which of two alignments is better.

        On classes they hardly do, since every network is sure of them, and on noise they mean nothing.
        """
        return self in (Topic.STATISTICS, Topic.TEXT)

    @property
    def trains(self) -> bool:
        """Whether an alignment that is trained to keep the outputs on such dreams keeps them on data, too."""
        return self is Topic.CLASSES


@dataclass(frozen=True)
class Dreams:
    """Inputs that networks dreamed; `says` of what, in words."""

    inputs: Shaped[Tensor, "count ..."]
    topic: Topic
    says: str


def topic_of(ensemble: Ensemble) -> Topic:
    """What networks can dream of.

    Raises:
        DataError: they do not run on their inputs.
    """
    if not ensemble.like.is_floating_point():
        return Topic.TEXT if is_causal(ensemble) else Topic.TOKENS
    if norms_in(ensemble):
        return Topic.STATISTICS
    out = ensemble.outputs(ensemble.like)[0]
    is_of_classes = out.is_floating_point() and are_scores(ensemble.like, out)
    return Topic.CLASSES if is_of_classes else Topic.NOISE


def quick_budget(shape: tuple[int, ...], entries: int) -> Budget:
    """What networks of so many entries, on inputs of a shape, can afford to match units by."""
    fitting = int(_WORK / (USUAL.steps * max(1, math.prod(shape[1:])) * max(1, entries)))
    if fitting < _FEWEST:
        return Budget(_FEWEST, _HASTY)
    return Budget(min(USUAL.count, fitting), USUAL.steps)


def class_budget(ensemble: Ensemble) -> Budget | None:
    """How many inputs of classes networks can afford to train an alignment on; nothing if too few."""
    like = ensemble.like
    once = work(ensemble.networks[0], lambda weights: ensemble.run(weights, like))
    passes = 3 * len(ensemble.networks) * _CLASSES.steps  # forward, and twice as much back
    count = min(_CLASSES.count, int((_CLASSES_WORK / passes - once.fixed) * len(like) / max(1, once.growing)))
    return Budget(count, _CLASSES.steps) if count >= _FEWEST_OF_CLASSES else None


def ample_budget(topic: Topic, shape: tuple[int, ...], entries: int) -> Budget:
    """How much to train on, of what takes no optimising: little of it would be learnt by heart."""
    if topic is Topic.TEXT:
        fewest, most = _TEXTS
        return Budget(max(fewest, min(most, _WRITING // max(1, entries))), 0)
    fitting = _NUMBERS // max(1, math.prod(shape))
    return Budget(min(_MOST_NOISE, max(USUAL.count, fitting)), 0)


def dream(
    ensemble: Ensemble, topic: Topic, budget: Budget = USUAL, seed: int = 0, progress: Progress = SILENT
) -> Dreams:
    """Dream some inputs; the same ones for the same networks, budget and seed.

    Raises:
        NonFiniteError: a network gives NaN or Inf on them. DataError: it does not run.
    """
    rng, count, steps = torch.Generator().manual_seed(seed), budget.count, budget.steps
    stage = progress.part(1.0, "dreaming", 1 if topic in (Topic.TEXT, Topic.TOKENS) else steps)
    what, words = f"{count} of {'x'.join(map(str, ensemble.shape)) or 'one number'}", ""
    if topic is Topic.TEXT:
        inputs = written(ensemble, count, rng, stage)
        words = f"{count} texts of {inputs.shape[1]} tokens, written by the networks"
    elif topic is Topic.TOKENS:
        inputs = random_tokens(ensemble, count, ensemble.shape, rng)
        words = f"{count} of {math.prod(ensemble.shape)} random tokens"
    else:
        inputs = pink_noise(ensemble.shape, count, rng, ensemble.like.dtype)
        if topic is Topic.STATISTICS:
            inputs = dream_of_statistics(ensemble, inputs, steps, stage)
        elif topic is Topic.CLASSES:
            inputs = dream_of_classes(ensemble, inputs, steps, rng, stage)
        words = f"{what} of {topic}" + ("" if topic is Topic.NOISE else f", in {steps} steps")
    ensemble.outputs(inputs)
    return Dreams(inputs, topic, words)
