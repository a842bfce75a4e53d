"""Training the refiner behind a finished encoder, which stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from deepalign_cli.assignment import log_sinkhorn
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.refiner import Refiner, RefinerConfig
from deepalign_cli.network.similarity import similarities
from deepalign_cli.train.losses import Stack, carried, distance_loss, path_loss, straight_through
from deepalign_cli.train.pool import Entry, pairs_of
from deepalign_cli.train.recipes import make
from deepalign_cli.train.training import Lesson, Plan, Run, run_of

_SINKHORN = 12
_SKETCHES = 8


def start_refiner(model: DeepAlign, table: Mapping[str, Any], plan: Plan) -> Run:
    """A fresh run that trains a refiner for a trained aligner.

    Raises:
        UsageError: the refiner's table is not usable.
    """
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        refiner = Refiner(make(RefinerConfig, table, "refiner"))
    model.requires_grad_(False)
    model.refiner = refiner
    return run_of(model, refiner, plan)


def refiner_losses(
    model: DeepAlign, plan: Plan, entry: Entry, rng: torch.Generator, step: int
) -> dict[str, Tensor]:
    """The distance and path losses of refined predictions; the prediction is that of run time."""
    nets, first, second = pairs_of(entry, plan.networks, rng)
    weights = entry.stack(nets)
    similar = _similarity(model, entry, weights, first, second, rng)
    a, b = ({n: w[side] for n, w in weights.items()} for side in (first, second))
    logits = model.refine(entry.graph, a, b, similar)
    soft = {g: log_sinkhorn(x, _SINKHORN).exp() for g, x in logits.items()}
    moved = carried(entry.graph.symmetry, soft, b)
    found = {"distance": distance_loss(a, b, moved)}
    if step >= plan.halfway and float(torch.rand(1, generator=rng)) < plan.hard:
        moved = carried(entry.graph.symmetry, {g: straight_through(p) for g, p in soft.items()}, b)
    member = entry.family.member[nets][first]
    found["path"] = path_loss(entry.family, entry.examples, a, moved, member, rng, plan.images)
    return found


def refined(model: DeepAlign, entry: Entry, a: Stack, b: Stack) -> dict[str, Tensor]:
    """The refined logits of one pair."""
    rng = torch.Generator().manual_seed(1)
    both = {n: torch.cat([a[n], b[n]]) for n in a}
    similar = _similarity(model, entry, both, torch.tensor([0]), torch.tensor([1]), rng)
    return dict(model.refine(entry.graph, a, b, similar))


@torch.no_grad()
def _similarity(
    model: DeepAlign, entry: Entry, weights: Stack, first: Tensor, second: Tensor, rng: torch.Generator
) -> dict[str, Tensor]:
    """Similarities averaged over as many sketches as at run time."""
    seeds = torch.randint(2**31, (_SKETCHES,), generator=rng).tolist()
    total: dict[str, Tensor] = {}
    for seed in seeds:
        features = model.encode(entry.graph, weights, [seed])
        one = similarities(*({g: f[side] for g, f in features.items()} for side in (first, second)))
        total = {g: s + total[g] if total else s for g, s in one.items()}
    return {g: s / len(seeds) for g, s in total.items()}


REFINER = Lesson(refiner_losses, refined)
