"""The training loop of the encoder: every step one family, some of its networks, all their pairs.

All randomness of a step comes from (seed, step, worker), so that a run that was stopped and resumed takes
the very steps that an unbroken one takes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepalign_cli.assignment import log_sinkhorn
from deepalign_cli.errors import UsageError
from deepalign_cli.network.encoders import encoder_table, make_encoder
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.saved import save_network
from deepalign_cli.network.similarity import similarities
from deepalign_cli.train.losses import (
    Stack,
    carried,
    distance_loss,
    noisy,
    path_loss,
    planted_loss,
    straight_through,
)
from deepalign_cli.train.pool import Entry, pairs_of
from deepalign_cli.train.recipes import make
from deepalign_cli.train.validation import score, validate
from deepalign_cli.train.workers import Workers

_SINKHORN = 12
_VALIDATION_SEEDS = [1, 2, 3, 4]


@dataclass(frozen=True)
class Plan:
    """How an encoder is trained. `weights` are those of the planted, distance and path losses.

    `planted_every`: the planted loss is only taken every so many steps; it is soon zero. `hard` is the
    share of steps in the second half whose path is taken at the rounded permutation (straight-through).
    """

    steps: int = 4000
    rate: float = 1e-3
    decay: float = 1e-4
    networks: int = 8
    images: int = 96
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    planted_every: int = 4
    hard: float = 0.5
    validate_every: int = 500
    seed: int = 0
    families: Mapping[str, float] = field(default_factory=dict)  # name's beginning -> how often

    @property
    def halfway(self) -> int:
        """The step from which hard paths are taken."""
        return self.steps // 2


@dataclass
class Run:
    """A training run's state, all of which a checkpoint holds."""

    model: DeepAlign
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    step: int = 0
    best: float = math.inf


def read_plan(recipe: Mapping[str, Any]) -> tuple[dict[str, Any], Plan]:
    """The encoder's table and the plan of a recipe's tables.

    Raises:
        UsageError: a table or an entry is not known.
    """
    unknown = set(recipe) - {"network", "train", "refiner"}
    if unknown:
        raise UsageError(
            f"the recipe has an unknown table '{min(unknown)}'.", "it may hold [network], [train], [refiner]."
        )
    return recipe.get("network", {}), make(Plan, recipe.get("train", {}), "train")


def start(network: Mapping[str, Any], plan: Plan) -> Run:
    """A fresh run: weights drawn from the plan's seed.

    Raises:
        UsageError: the encoder's table is not usable.
    """
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        try:
            model = DeepAlign(make_encoder(network))
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"[network] of the recipe is not usable: {error}.", "encoder = 'universal'.") from None
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, plan.steps + 1, pct_start=0.1)
    return Run(model, optimiser, schedule)


def train(
    run: Run, plan: Plan, pool: Sequence[Entry], out: Path, advance: Callable[[int, str], None],
    workers: Workers | None = None, stop: int | None = None,
) -> None:  # fmt: skip
    """Train up to the plan's last step (or `stop`), writing `last.pt`, `best.safetensors` and `log.jsonl`.

    Raises:
        OutputError: a file cannot be written.
    """
    workers = workers or Workers()
    shares = torch.tensor([_share(entry.name, plan.families) for entry in pool])
    out.mkdir(parents=True, exist_ok=True)
    recent: list[dict[str, float]] = []
    clock = time.perf_counter()
    while run.step < (stop or plan.steps):
        rng = torch.Generator().manual_seed(((plan.seed * 1000 + workers.rank) << 32) + run.step)
        entry = pool[int(torch.multinomial(shares, 1, generator=rng))]
        found = _step(run, plan, entry, rng, workers)
        recent.append(found)
        advance(run.step, f"loss {found['path']:.3f}")
        if run.step % plan.validate_every == 0 or run.step == plan.steps:
            _report(run, plan, pool, out, recent, time.perf_counter() - clock, workers)
            recent = []


def _step(
    run: Run, plan: Plan, entry: Entry, rng: torch.Generator, workers: Workers
) -> dict[str, float]:
    parts = pair_losses(run.model, plan, entry, rng, run.step)
    loss = sum((w * parts[k] for w, k in zip(plan.weights, ("planted", "distance", "path"), strict=True)
                if k in parts), start=torch.zeros(()))  # fmt: skip
    run.optimiser.zero_grad()
    loss.backward()
    workers.average(run.model)
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    if norm.isfinite():
        run.optimiser.step()
    run.schedule.step()
    run.step += 1
    return {name: float(part.detach()) for name, part in parts.items()}


def pair_losses(
    model: DeepAlign, plan: Plan, entry: Entry, rng: torch.Generator, step: int
) -> dict[str, Tensor]:
    """The losses of one step on some networks of a family."""
    seed = [int(torch.randint(2**31, (1,), generator=rng))]
    nets, first, second = pairs_of(entry, plan.networks, rng)
    weights = entry.stack(nets)
    features = model.encode(entry.graph, weights, seed)
    found: dict[str, Tensor] = {}
    if plan.weights[0] and step % plan.planted_every == 0:
        copies = model.encode(entry.graph, noisy(weights, rng), seed)
        found["planted"] = planted_loss(_projected(model, similarities(features, copies)))
    similar = similarities(
        {g: f[first] for g, f in features.items()}, {g: f[second] for g, f in features.items()}
    )
    soft = {g: log.exp() for g, log in _projected(model, similar).items()}
    a, b = ({n: w[side] for n, w in weights.items()} for side in (first, second))
    moved = carried(entry.graph.symmetry, soft, b)
    found["distance"] = distance_loss(a, b, moved)
    if step >= plan.halfway and float(torch.rand(1, generator=rng)) < plan.hard:
        moved = carried(entry.graph.symmetry, {g: straight_through(p) for g, p in soft.items()}, b)
    member = entry.family.member[nets][first]
    found["path"] = path_loss(entry.family, entry.examples, a, moved, member, rng, plan.images)
    return found


def _projected(model: DeepAlign, similar: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {g: log_sinkhorn(model.temperature * s, _SINKHORN) for g, s in similar.items()}


def predict(model: DeepAlign, entry: Entry, a: Stack, b: Stack) -> dict[str, Tensor]:
    """The similarities of one pair, mean over a few fixed sketches."""
    found = similarities(*(model.encode(entry.graph, w, _VALIDATION_SEEDS) for w in (a, b)))
    return {g: s.mean(0, keepdim=True) for g, s in found.items()}


def _report(
    run: Run, plan: Plan, pool: Sequence[Entry], out: Path, recent: Sequence[Mapping[str, float]],
    seconds: float, workers: Workers,
) -> None:  # fmt: skip
    """Validate, log, and keep the state; the best network by validation is kept apart."""
    if workers.rank:
        return
    excess = validate(pool, lambda entry, a, b: predict(run.model, entry, a, b))
    value = score(excess)
    better = value < run.best
    run.best = min(run.best, value)
    means = {
        key: sum(r[key] for r in recent if key in r) / max(1, sum(key in r for r in recent))
        for key in ("planted", "distance", "path")
    }
    line = {"step": run.step, "score": value, "best": better, "seconds": seconds, **means,
            "temperature": float(run.model.temperature.detach()), "excess": excess}  # fmt: skip
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
    save_state(run, out / "last.pt")
    if better:
        save_network(out / "best.safetensors", run.model, {"step": str(run.step)}, force=True)


def save_state(run: Run, path: Path) -> None:
    """Write everything that going on needs; the file appears whole or not at all."""
    state = {
        "model": run.model.state_dict(), "optimiser": run.optimiser.state_dict(),
        "schedule": run.schedule.state_dict(), "step": run.step, "best": run.best,
        "config": encoder_table(run.model.encoder),
    }  # fmt: skip
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


def load_state(run: Run, path: Path) -> None:
    """Go on from a saved state.

    Raises:
        UsageError: there is none, or it is of another network.
    """
    if not path.exists():
        raise UsageError(f"there is no run to resume in '{path.parent}'.", "leave --resume out.")
    state = torch.load(path, weights_only=True)
    if state["config"] != encoder_table(run.model.encoder):
        raise UsageError("the saved run is of another network than the recipe's.", "take another --out.")
    run.model.load_state_dict(state["model"])
    run.optimiser.load_state_dict(state["optimiser"])
    run.schedule.load_state_dict(state["schedule"])
    run.step, run.best = state["step"], state["best"]


def _share(name: str, families: Mapping[str, float]) -> float:
    """How often a family is drawn: the weight of the longest entry that its name begins with, else 1."""
    fitting = [key for key in families if name.startswith(key)]
    return families[max(fitting, key=len)] if fitting else 1.0
