"""Training an encoder: every step one family, and some of its networks' pairs.

All randomness of a step comes from (step, worker), and the kept state holds everything else, so that a run
that was stopped and resumed takes the very steps that an unbroken one takes, and leaves the same log.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepalign_cli.assignment import log_sinkhorn
from deepalign_cli.errors import UsageError
from deepalign_cli.integers import check_integers
from deepalign_cli.network.encoders import ENCODERS, encoder_table, make_encoder
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import load_pretrained, network_name
from deepalign_cli.network.saved import save_network
from deepalign_cli.network.similarity import similarities
from deepalign_cli.network.soft import straight_through
from deepalign_cli.train.log import append, finite, forget_after, mean
from deepalign_cli.train.objectives import (
    Stack,
    carried,
    distance_loss,
    noisy,
    path_loss,
    planted_loss,
)
from deepalign_cli.train.pool import HELD_OUT, PoolEntry, pairs_of
from deepalign_cli.train.recipes import check_encoder, check_tables, make
from deepalign_cli.train.run_state import generator_of, opened_state, write_state
from deepalign_cli.train.validation import score, validate
from deepalign_cli.train.workers import Workers

STATE, BEST, LOG = "last.pt", "best.safetensors", "log.jsonl"
_SINKHORN = 12
_VALIDATION_SEEDS = [1, 2, 3, 4]
_KEEP_EVERY = 50  # steps: what an interruption may cost
_LOSSES = ("planted", "distance", "path")
# The least of each integer; a tenth of the steps is the warm-up.
_LEAST = {"steps": 10, "networks": 2, "images": 1, "planted_every": 1, "validate_every": 1, "seed": 0}


@dataclass(frozen=True)
class Plan:
    """How an encoder is trained. `weights` are those of the planted, distance and path losses.

    `start` names a trained aligner whose weights the run begins with. `planted_every`: the planted loss is
    only taken every so many steps, for it is soon zero; of networks with a common parent, whose partners
    are known, at every step. `hard` is the share of steps whose path is taken at the rounded permutation
    (straight-through), from the share `hard_from` of the run on. `half`: the path is run in bfloat16.
    """

    steps: int = 4000
    rate: float = 1e-3
    decay: float = 1e-4
    networks: int = 8
    images: int = 96
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    planted_every: int = 4
    hard: float = 0.5
    hard_from: float = 0.5
    half: bool = False
    start: str = ""
    validate_every: int = 500
    seed: int = 0
    families: Mapping[str, float] = field(default_factory=dict)  # name's beginning -> how often

    def __post_init__(self) -> None:
        check_integers(self, _LEAST)
        if not isinstance(self.weights, tuple) or len(self.weights) != len(_LOSSES):
            raise ValueError(f"weights must be three numbers, not {self.weights!r}")
        if not isinstance(self.families, Mapping):
            raise ValueError(f"families must be a table, not {self.families!r}")
        numbers = {name: getattr(self, name) for name in ("rate", "decay", "hard", "hard_from")}
        numbers |= {f"weights[{i}]": w for i, w in enumerate(self.weights)}
        numbers |= {f"families.{name}": share for name, share in self.families.items()}
        for name, number in numbers.items():
            if type(number) not in (int, float) or not 0 <= number < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, not {number!r}")


Losses = Callable[[DeepAlign, Plan, PoolEntry, torch.Generator, int], dict[str, Tensor]]


@dataclass
class TrainingRun:
    """A training run's state, all of which a checkpoint holds; `recent` are the losses not yet logged."""

    model: DeepAlign
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    step: int = 0
    best: float = math.inf
    seconds: float = 0.0
    recent: list[dict[str, float]] = field(default_factory=list)


def read_plan(recipe: Mapping[str, Any]) -> tuple[dict[str, Any], Plan]:
    """The encoder's table and the plan of a recipe's tables.

    Raises:
        UsageError: a table or an entry is not known.
    """
    check_tables(recipe)
    return recipe.get("network", {}), make(Plan, recipe.get("train", {}), "train")


def start(network: Mapping[str, Any], plan: Plan) -> TrainingRun:
    """A fresh run: weights drawn from the plan's seed or a trained aligner's, AdamW under a one-cycle rate.

    Raises:
        UsageError: the encoder's table is not usable, or the trained aligner has another one.
        CheckpointError: the trained aligner is none.
    """
    check_encoder(network, "network", ENCODERS, "universal")
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        try:
            model = DeepAlign(make_encoder(network))
        except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
            raise UsageError(
                f"[network] of the recipe is not usable: {error}.",
                "docs/training.md has the entries of each encoder.",
            ) from None
    if plan.start:
        _warm(model, plan.start)
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=plan.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.rate, plan.steps + 1, pct_start=0.05)
    return TrainingRun(model, optimiser, schedule)


def _warm(model: DeepAlign, reference: str) -> None:
    """Give a model the encoder and the temperature of a trained aligner."""
    trained = load_pretrained(reference)
    if encoder_table(trained.encoder) != encoder_table(model.encoder):
        raise UsageError(
            f"'{network_name(reference)}', which [train] starts with, has another encoder than [network].",
            f"write [network] with {encoder_table(trained.encoder)}.",
        )
    trained.refiner = None
    model.load_state_dict(trained.state_dict())


def check_pool(pool: Sequence[PoolEntry], plan: Plan) -> None:
    """Check that there is something to learn from every family, and something to draw.

    Raises:
        UsageError: a family has too few networks, or the plan's shares do not fit the families.
    """
    for entry in pool:
        member = entry.family.member
        counts = torch.unique(member[entry.train], return_counts=True)[1]
        held = member[entry.held]
        paired = len(held) % 2 == 0 and bool((held[::2] == held[1::2]).all())
        if not len(counts) or int(counts.min()) < 2 or not len(held) or not paired:
            raise UsageError(
                f"the family '{entry.name}' has too few networks to learn from.",
                f"{HELD_OUT} are held out for validation and 2 must be left; of fields, {HELD_OUT} members "
                "are, and every member needs 2.",
            )
    for start_of_name in plan.families:
        if not any(entry.name.startswith(start_of_name) for entry in pool):
            raise UsageError(
                f"[train.families] of the recipe: no family's name begins with '{start_of_name}'.",
                f"the zoo has {pool[0].name}, ...",
            )
    if not any(_share(entry.name, plan.families) for entry in pool):
        raise UsageError("[train.families] of the recipe leaves no family to draw.", "raise a share above 0.")


def train(
    run: TrainingRun, plan: Plan, pool: Sequence[PoolEntry], out: Path, advance: Callable[[int, str], None],
    workers: Workers | None = None, stop: int | None = None, losses: Losses | None = None,
) -> None:  # fmt: skip
    """Train up to the plan's last step (or `stop`), writing `last.pt`, `best.safetensors` and `log.jsonl`.

    `advance` is told each step's number and, in words, its loss; `losses` are those of a step.

    Raises:
        UsageError: the families cannot be used. OutputError: a file cannot be written.
    """
    check_pool(pool, plan)
    workers, losses = workers or Workers(), losses or pair_losses
    workers.wait()  # until all have looked at what is in `out`
    if workers.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        forget_after(out / LOG, run.step)
        save_state(run, plan, pool, out / STATE)
    shares = torch.tensor([_share(entry.name, plan.families) for entry in pool], dtype=torch.float32)
    last = min(stop or plan.steps, plan.steps)
    started = time.perf_counter() - run.seconds
    while run.step < last:
        rng = generator_of(workers.rank, run.step)
        entry = pool[int(torch.multinomial(shares, 1, generator=rng))]
        run.recent.append(_step(run, plan, entry, rng, workers, losses))
        run.seconds = time.perf_counter() - started
        advance(run.step, f"loss {run.recent[-1]['path']:.3f}")
        if run.step % plan.validate_every == 0 or run.step == plan.steps:
            if workers.rank == 0:
                _report(run, pool, out)
            run.recent = []
            workers.wait()
        if workers.rank == 0 and (run.step % min(_KEEP_EVERY, plan.validate_every) == 0 or run.step == last):
            save_state(run, plan, pool, out / STATE)


def _step(
    run: TrainingRun, plan: Plan, entry: PoolEntry, rng: torch.Generator, workers: Workers, losses: Losses
) -> dict[str, float]:
    parts = losses(run.model, plan, entry, rng, run.step)
    loss = sum((w * parts[k] for w, k in zip(plan.weights, _LOSSES, strict=True) if k in parts),
               start=torch.zeros(()))  # fmt: skip
    run.optimiser.zero_grad()
    torch.autograd.backward(loss)
    workers.average(run.model)
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    if norm.isfinite():
        run.optimiser.step()
    run.schedule.step()
    run.step += 1
    return {name: float(part.detach()) for name, part in parts.items()}


def pair_losses(
    model: DeepAlign, plan: Plan, entry: PoolEntry, rng: torch.Generator, step: int
) -> dict[str, Tensor]:
    """The losses of one step on some networks of a family."""
    seed = [int(torch.randint(2**31, (1,), generator=rng))]
    nets, first, second = pairs_of(entry, plan.networks, rng)
    weights = entry.stack(nets)
    features = model.encode(entry.graph, weights, seed)
    parts: dict[str, Tensor] = {}
    similar = similarities(*({g: f[side] for g, f in features.items()} for side in (first, second)))
    logs = _projected(model, similar)
    if entry.family.common:
        parts["planted"] = planted_loss(logs)
    elif plan.weights[0] and step % plan.planted_every == 0:
        copies = model.encode(entry.graph, noisy(weights, rng), seed)
        parts["planted"] = planted_loss(_projected(model, similarities(features, copies)))
    soft = {g: log.exp() for g, log in logs.items()}
    a, b = ({n: w[side] for n, w in weights.items()} for side in (first, second))
    moved = carried(entry.graph.symmetry, soft, b)
    parts["distance"] = distance_loss(a, b, moved)
    if step >= int(plan.hard_from * plan.steps) and float(torch.rand(1, generator=rng)) < plan.hard:
        moved = carried(entry.graph.symmetry, {g: straight_through(p) for g, p in soft.items()}, b)
    member = entry.family.member[nets][first]
    parts["path"] = path_loss(entry.family, entry.examples, a, moved, member, rng, plan.images, plan.half)
    return parts


def _projected(model: DeepAlign, similar: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {g: log_sinkhorn(model.temperature * s, _SINKHORN) for g, s in similar.items()}


def predict(model: DeepAlign, entry: PoolEntry, a: Stack, b: Stack) -> dict[str, Tensor]:
    """The similarities of one pair, mean over a few fixed sketches."""
    similar = similarities(*(model.encode(entry.graph, w, _VALIDATION_SEEDS) for w in (a, b)))
    return {g: s.mean(0, keepdim=True) for g, s in similar.items()}


def _report(run: TrainingRun, pool: Sequence[PoolEntry], out: Path) -> None:
    """Validate, keep the network if it is the best so far, and add a line to the log."""
    excess = validate(pool, lambda entry, a, b: predict(run.model, entry, a, b))
    value = score(excess)
    better = value < run.best
    if better:
        run.best = value
        facts = {"step": str(run.step), "score": f"{value:.6g}"}
        save_network(out / BEST, run.model, facts, force=True)
    line = {"step": run.step, "score": finite(value), "best": better, "seconds": round(run.seconds, 3),
            **{key: mean([r[key] for r in run.recent if key in r]) for key in _LOSSES},
            "temperature": float(run.model.temperature.detach()),
            "excess": {name: finite(x) for name, x in excess.items()}}  # fmt: skip
    append(out / LOG, line)


def save_state(run: TrainingRun, plan: Plan, pool: Sequence[PoolEntry], path: Path) -> None:
    """Write everything that going on needs; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    state = {
        "model": run.model.state_dict(), "optimiser": run.optimiser.state_dict(),
        "schedule": run.schedule.state_dict(), "step": run.step, "best": run.best,
        "seconds": run.seconds, "recent": run.recent, "config": encoder_table(run.model.encoder),
        "plan": asdict(plan), "families": [entry.name for entry in pool],
    }  # fmt: skip
    write_state(path, state)


def load_state(run: TrainingRun, plan: Plan, pool: Sequence[PoolEntry], path: Path) -> None:
    """Go on from a saved state.

    Raises:
        UsageError: there is none, or it is of another network, plan or zoo. CheckpointError: it is broken.
    """
    if not path.exists():
        raise UsageError(f"there is no run to resume in '{path.parent}'.", "leave --resume out.")
    with opened_state(path) as state:
        _check_same(state, run, plan, pool)
        run.model.load_state_dict(state["model"])
        run.optimiser.load_state_dict(state["optimiser"])
        run.schedule.load_state_dict(state["schedule"])
        run.step, run.best = state["step"], state["best"]
        run.seconds, run.recent = state["seconds"], state["recent"]


def _check_same(state: Mapping[str, Any], run: TrainingRun, plan: Plan, pool: Sequence[PoolEntry]) -> None:
    """Raise UsageError unless a resumed run continues exactly what was started."""
    hint = "continue with the recipe and the zoo that it was started with, or give another --out."
    if state["config"] != encoder_table(run.model.encoder):
        raise UsageError("the saved run has another [network] than the recipe.", hint)
    for name, value in asdict(plan).items():
        if state["plan"].get(name) != value:
            raise UsageError(f"the saved run has another {name} in [train] than the recipe.", hint)
    if state["families"] != [entry.name for entry in pool]:
        raise UsageError("the saved run has other families than the zoo.", hint)


def _share(name: str, families: Mapping[str, float]) -> float:
    """How often a family is drawn: the weight of the longest entry that its name begins with, else 1."""
    fitting = [key for key in families if name.startswith(key)]
    return families[max(fitting, key=len)] if fitting else 1.0
