"""Training the refiner behind a finished encoder, which stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.assignment import log_sinkhorn
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.refiner import Refiner, RefinerConfig
from deepalign_cli.network.similarity import directions
from deepalign_cli.train.loop import Lesson, Plan, TrainingRun, run_of
from deepalign_cli.train.objectives import Stack, carried, distance_loss, path_loss, straight_through
from deepalign_cli.train.pool import PoolEntry
from deepalign_cli.train.recipes import make

_SINKHORN = 12
_SKETCHES = list(range(1, 9))  # as many as at run time


def start_refiner(model: DeepAlign, table: Mapping[str, Any], plan: Plan) -> TrainingRun:
    """A fresh run that trains a refiner, in place of any that there is, for a trained aligner.

    Raises:
        UsageError: the refiner's table is not usable.
    """
    return run_of(model, add_refiner(model, table, plan.seed), plan)


def add_refiner(model: DeepAlign, table: Mapping[str, Any], seed: int) -> Refiner:
    """Put a fresh refiner behind an encoder, which is not to change any more.

    Raises:
        UsageError: the refiner's table is not usable.
    """
    config = make(RefinerConfig, table, "refiner")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        refiner = Refiner(config)
    model.requires_grad_(False)
    model.refiner = refiner
    return refiner


@dataclass(frozen=True)
class _Known:
    """A family's training pairs and what the encoder, which does not change, predicts for them."""

    first: Int64[Tensor, " pairs"]
    second: Int64[Tensor, " pairs"]
    similarity: Mapping[str, Float[Tensor, "pairs _ _"]]


class Refining:
    """The lesson of the refiner. Every family is encoded once, when it is first drawn."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def lesson(self) -> Lesson:
        """What `train` takes."""
        return Lesson(self.losses, refined)

    def losses(
        self, model: DeepAlign, plan: Plan, entry: PoolEntry, rng: torch.Generator, step: int
    ) -> dict[str, Tensor]:
        """The distance and path losses of refined predictions of some pairs."""
        if entry.name not in self._known:
            self._known[entry.name] = _predicted(model, entry)
        known = self._known[entry.name]
        chosen = torch.randperm(len(known.first), generator=rng)[: plan.networks]
        first, second = known.first[chosen], known.second[chosen]
        a, b = entry.stack(first), entry.stack(second)
        logits = model.refine(entry.graph, a, b, {g: s[chosen] for g, s in known.similarity.items()})
        soft = {g: log_sinkhorn(x, _SINKHORN).exp() for g, x in logits.items()}
        moved = carried(entry.graph.symmetry, soft, b)
        found = {"distance": distance_loss(a, b, moved)}
        if step >= plan.halfway and float(torch.rand(1, generator=rng)) < plan.hard:
            moved = carried(entry.graph.symmetry, {g: straight_through(p) for g, p in soft.items()}, b)
        member = entry.family.member[first]
        found["path"] = path_loss(entry.family, entry.examples, a, moved, member, rng, plan.images)
        return found


def refined(model: DeepAlign, entry: PoolEntry, a: Stack, b: Stack) -> dict[str, Tensor]:
    """The refined logits of one pair."""
    return dict(model.refine(entry.graph, a, b, predicted(model, entry, a, b)))


def predicted(model: DeepAlign, entry: PoolEntry, a: Stack, b: Stack) -> dict[str, Float[Tensor, "1 _ _"]]:
    """The similarities of one pair, mean over the sketches."""
    return _products(_read(model, entry, a), _read(model, entry, b))


@torch.no_grad()
def _predicted(model: DeepAlign, entry: PoolEntry) -> _Known:
    """Every training network with the next one of its member."""
    member = entry.family.member[entry.train]
    first, second = [], []
    for m in torch.unique(member):
        own = entry.train[member == m]
        first.append(own)
        second.append(own.roll(-1))
    nets = torch.cat(first)
    place = {int(net): i for i, net in enumerate(nets)}
    partner = torch.tensor([place[int(net)] for net in torch.cat(second)])
    parts = [_read(model, entry, entry.stack(net.reshape(1))) for net in nets]
    read = {g: torch.cat([part[g] for part in parts]) for g in parts[0]}
    return _Known(nets, torch.cat(second), _products(read, {g: x[partner] for g, x in read.items()}))


@torch.no_grad()
def _read(model: DeepAlign, entry: PoolEntry, one: Stack) -> dict[str, Float[Tensor, "1 _ out"]]:
    """A network's directions under all sketches side by side, so that their product is the mean's."""
    features = model.encode(entry.graph, one, _SKETCHES)
    made = {g: directions(f).movedim(0, 1).flatten(1).unsqueeze(0) for g, f in features.items()}
    return {g: x * len(_SKETCHES) ** -0.5 for g, x in made.items()}


def _products(
    a: Mapping[str, Float[Tensor, "batch _ out"]], b: Mapping[str, Float[Tensor, "batch _ out"]]
) -> dict[str, Float[Tensor, "batch _ _"]]:
    return {g: a[g] @ b[g].transpose(1, 2) for g in a}
