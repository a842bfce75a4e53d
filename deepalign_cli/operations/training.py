"""Making zoos and training aligners: from recipes and folders to files and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import UsageError
from deepalign_cli.train.pool import Entry, load_pool
from deepalign_cli.train.recipes import read_recipe
from deepalign_cli.train.training import BEST, LOG, STATE, Plan, Run, load_state, read_plan, start, train
from deepalign_cli.train.workers import Workers
from deepalign_cli.train.zoo import train_zoo


@dataclass(frozen=True)
class ZooReport:
    """What is in a zoo's folder now; `seconds` are those of this call."""

    output: Path
    families: int
    networks: int
    seconds: float


@dataclass(frozen=True)
class TrainReport:
    """How far a run came; `output` and `score` are the best network's, None before the first validation."""

    output: Path | None
    steps: int
    of: int
    score: float | None
    seconds: float


@dataclass(frozen=True)
class Session:
    """A run that is ready to go on."""

    run: Run
    plan: Plan
    pool: Sequence[Entry]
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


def make_zoo(recipe: Path, data: Path, out: Path, advance: Callable[[float], None]) -> ZooReport:
    """Train the families of a recipe that are not in `out` yet; `advance` is told what share is added.

    Raises:
        UsageError: the recipe or the data cannot be used. OutputError: a file cannot be written.
    """
    started, reached = time.perf_counter(), 0.0

    def told(_name: str, share: float) -> None:
        nonlocal reached
        advance(share - reached)
        reached = share

    train_zoo(recipe, data, out, told)
    files = [open_checkpoint(path) for path in sorted(out.glob("*.safetensors"))]
    networks = sum(file.infos["score"].shape[0] for file in files)
    return ZooReport(out, len(files), networks, time.perf_counter() - started)


def prepare(recipe: Path, zoo: Path, data: Path, out: Path, resume: bool, workers: Workers) -> Session:
    """Everything that a run needs, from its beginning or from where it was kept.

    Raises:
        UsageError: the recipe, the zoo or the data cannot be used, or `out` holds a run and `resume` is not
        given, or the other way round. CheckpointError: a family's file or the kept run is broken.
    """
    network, plan = _recipe(recipe)
    if resume and not (out / STATE).exists():
        raise UsageError(f"there is no run to resume in '{out}'.", "leave --resume out.")
    if not resume and any((out / name).exists() for name in (STATE, BEST, LOG)):
        raise UsageError(f"'{out}' holds a run already.", "go on with it by --resume, or name another --out.")
    run = start(network, plan)
    pool = load_pool(zoo, data)
    if resume:
        load_state(run, plan, pool, out / STATE)
    return Session(run, plan, pool, workers, out)


def _recipe(path: Path) -> tuple[dict[str, object], Plan]:
    table = read_recipe(path)
    if "refiner" in table:
        raise UsageError(
            "`deepalign train` trains no [refiner].", "deepalign_cli.train.refining does, from Python."
        )
    return read_plan(table)
