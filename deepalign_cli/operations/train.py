"""Making zoos and training aligners: from recipes and folders to files and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import UsageError
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.network.pretrained import load_pretrained
from deepalign_cli.train.export import export_zoo
from deepalign_cli.train.loop import BEST, LOG, STATE, Plan, TrainingRun, load_state, read_plan, start, train
from deepalign_cli.train.plans import family_plans
from deepalign_cli.train.pool import PoolEntry, load_pool
from deepalign_cli.train.recipes import check_tables, make, read_recipe
from deepalign_cli.train.searching import Search, add_refiner, write_searched
from deepalign_cli.train.workers import Workers
from deepalign_cli.train.zoo_training import train_zoo


@dataclass(frozen=True)
class ZooReport:
    """What is in a zoo's folder now; `seconds` are those of this call."""

    output: Path
    families: int
    networks: int
    seconds: float


@dataclass(frozen=True)
class TrainReport:
    """How far a run came; `output` and `score` are the best network's, None before the first validation.

    A `unit` of a run is a step, or a trial where a refiner is searched for; `steps` counts these too.
    """

    output: Path | None
    steps: int
    of: int
    score: float | None
    seconds: float
    unit: str = "step"


@dataclass(frozen=True)
class TrainingSession:
    """A run that is ready to go on."""

    label, unit = "training", "step"

    run: TrainingRun
    plan: Plan
    pool: Sequence[PoolEntry]
    workers: Workers
    out: Path
    started: float = field(default_factory=time.perf_counter)

    def left(self, stop: int | None) -> int:
        """How many steps there are to take, up to the plan's last or `stop`."""
        return max(0, min(stop or self.plan.steps, self.plan.steps) - self.run.step)

    def go(self, stop: int | None, advance: Callable[[int, str], None]) -> TrainReport:
        """Train; see `train` for what is raised."""
        train(self.run, self.plan, self.pool, self.out, advance, self.workers, stop)
        self.workers.leave()
        best, found = self.run.best, self.out / BEST
        judged = math.isfinite(best)
        seconds = time.perf_counter() - self.started
        return TrainReport(
            found if judged else None, self.run.step, self.plan.steps, best if judged else None, seconds
        )


@dataclass(frozen=True)
class SearchSession:
    """A search for a refiner's weights that is ready to begin."""

    label, unit = "searching", "trial"

    model: DeepAlign
    plan: Search
    pool: Sequence[PoolEntry]
    out: Path
    started: float = field(default_factory=time.perf_counter)

    def left(self, stop: int | None) -> int:
        """How many trials there are to make, up to the plan's last or `stop`."""
        return min(stop or self.plan.trials, self.plan.trials)

    def go(self, stop: int | None, advance: Callable[[int, str], None]) -> TrainReport:
        """Search; see `write_searched` for what is raised."""
        plan = replace(self.plan, trials=self.left(stop))
        score = write_searched(self.model, self.pool, plan, self.out, advance)
        judged = math.isfinite(score)
        return TrainReport(
            self.out / BEST if judged else None, plan.trials, self.plan.trials, score if judged else None,
            time.perf_counter() - self.started, self.unit,
        )  # fmt: skip


def make_zoo(
    recipe: Path, data: Path, out: Path, advance: Callable[[float], None], networks: bool = False
) -> ZooReport:
    """Train the families of a recipe that are not in `out` yet; `advance` is told what share is added.

    With `networks`, each of their networks is also written to a checkpoint of its own.

    Raises:
        UsageError: the recipe or the data cannot be used. OutputError: a file cannot be written.
    """
    started, reached = time.perf_counter(), 0.0

    def told(_name: str, share: float) -> None:
        nonlocal reached
        advance(share - reached)
        reached = share

    train_zoo(recipe, data, out, told)
    if networks:
        export_zoo(out, [plan.name for plan in family_plans(read_recipe(recipe))], data)
    files = [open_checkpoint(path) for path in sorted(out.glob("*.safetensors"))]
    count = sum(file.infos["score"].shape[0] for file in files)
    return ZooReport(out, len(files), count, time.perf_counter() - started)


def prepare(
    recipe: Path, zoo: Path, data: Path, out: Path, resume: bool, workers: Workers,
    network: str | None = None,
) -> TrainingSession | SearchSession:  # fmt: skip
    """Everything that a run needs, from its beginning or from where it was kept.

    `network` names the aligner that a recipe with a [search] finds a refiner for.

    Raises:
        UsageError: the recipe, the network, the zoo or the data cannot be used, or `out` holds a run and
        `resume` is not given, or the other way round. CheckpointError: the network, a family's file or the
        kept run is broken.
    """
    table = read_recipe(recipe)
    check_tables(table)
    _check_search(table)
    _check_network(table, network)
    if network is not None:
        return _prepare_search(table, zoo, data, out, resume, workers, network)
    encoder, plan = read_plan(table)
    if resume and not (out / STATE).exists():
        raise UsageError(f"there is no run to resume in '{out}'.", "leave --resume out.")
    if not resume and any((out / name).exists() for name in (STATE, BEST, LOG)):
        raise UsageError(f"'{out}' holds a run already.", "go on with it by --resume, or name another --out.")
    run = start(encoder, plan)
    pool = load_pool(zoo, data)
    if resume:
        load_state(run, plan, pool, out / STATE)
    return TrainingSession(run, plan, pool, workers, out)


def _prepare_search(
    recipe: Mapping[str, Any], zoo: Path, data: Path, out: Path, resume: bool, workers: Workers, network: str
) -> SearchSession:
    """A fresh refiner behind an aligner, and what it is searched with."""
    plan = make(Search, recipe["search"], "search")
    if resume:
        raise UsageError(
            "a [search] takes minutes and is not resumed.", "leave --resume out, and name another --out."
        )
    if workers.count > 1:
        raise UsageError("a [search] runs in one process.", "start it without accelerate or torchrun.")
    if any((out / name).exists() for name in (STATE, BEST, LOG)):
        raise UsageError(f"'{out}' holds a run already.", "name another --out.")
    model = load_pretrained(network)
    add_refiner(model, recipe["refiner"])
    return SearchSession(model, plan, load_pool(zoo, data), out)


def _check_search(recipe: Mapping[str, Any]) -> None:
    """A refiner is searched for, and never trained."""
    if "search" in recipe and "train" in recipe:
        raise UsageError(
            "the recipe has both a [train] and a [search].",
            "an encoder is trained, a refiner's weights are searched for: leave one of the two out.",
        )
    for one, other in (("search", "refiner"), ("refiner", "search")):
        if one in recipe and other not in recipe:
            raise UsageError(
                f"the recipe has a [{one}], but no [{other}].",
                "pretrained/universal-v1-refiner.toml has both.",
            )


def _check_network(recipe: Mapping[str, Any], network: str | None) -> None:
    """An encoder is trained from nothing, a refiner behind an encoder that is there."""
    if "refiner" in recipe and "network" in recipe:
        raise UsageError(
            "the recipe has both a [network] and a [refiner].",
            "train the network first; the refiner's recipe takes it from --network.",
        )
    if "refiner" in recipe and network is None:
        raise UsageError(
            "a recipe with a [refiner] needs the aligner that it refines.",
            "name it by --network: one that comes with deepalign, or a path.",
        )
    if "refiner" not in recipe and network is not None:
        raise UsageError("--network is for a recipe with a [refiner].", "leave it out.")
