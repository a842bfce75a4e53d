"""Making zoos and training aligners: from recipes and folders to files and reports."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.cluster import connected
from deepalign_cli.devices import device_of
from deepalign_cli.errors import UsageError
from deepalign_cli.network.pretrained import load_pretrained
from deepalign_cli.threads import usable_cores
from deepalign_cli.train.autoencoding import (
    AutoencoderRun,
    load_autoencoder_state,
    read_autoencoder_plan,
    start_autoencoder,
    train_autoencoder,
)
from deepalign_cli.train.corpus import load_corpus
from deepalign_cli.train.export import export_zoo
from deepalign_cli.train.loop import BEST, LOG, STATE, TrainingRun, load_state, read_plan, start, train
from deepalign_cli.train.plans import family_plans
from deepalign_cli.train.pool import load_pool
from deepalign_cli.train.recipes import check_tables, make, read_recipe
from deepalign_cli.train.searching import Search, add_refiner, write_searched
from deepalign_cli.train.workers import Workers
from deepalign_cli.train.zoo_training import train_zoo

_BOTH = "add it: pretrained/universal-v1-refiner.toml has both."


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

    `steps` counts `unit`s: steps, or trials where a refiner is searched for.
    """

    output: Path | None
    steps: int
    of: int
    score: float | None
    seconds: float
    unit: str


@dataclass(frozen=True)
class TrainingSession:
    """A run, or a search for a refiner's weights, that is ready to continue at step `done` of `of`.

    `work` goes up to a step, tells each step's number and some words on it, and returns the step reached and
    the best score.
    """

    label: str
    unit: str
    done: int
    of: int
    out: Path
    work: Callable[[int, Callable[[int, str], None]], tuple[int, float]]
    started: float = field(default_factory=time.perf_counter)

    def left(self, stop: int | None) -> int:
        """How many steps remain, up to the last or `stop`."""
        return max(0, self._last(stop) - self.done)

    def go(self, stop: int | None, advance: Callable[[int, str], None]) -> TrainReport:
        """Train or search; see `train` and `write_searched` for what is raised."""
        steps, score = self.work(self._last(stop), advance)
        seconds = time.perf_counter() - self.started
        if not math.isfinite(score):
            return TrainReport(None, steps, self.of, None, seconds, self.unit)
        return TrainReport(self.out / BEST, steps, self.of, score, seconds, self.unit)

    def _last(self, stop: int | None) -> int:
        return min(stop or self.of, self.of)


def make_zoo(
    recipe: Path, data: Path, out: Path, advance: Callable[[float], None], networks: bool = False,
    device: str = "cpu", engine: str | None = None,
) -> ZooReport:  # fmt: skip
    """Train the families of a recipe that are not in `out` yet; `advance` gets the share of work just done.

    With `networks`, each of their networks is also written to a checkpoint of its own. With an `engine` the
    workers of a cluster train.

    Raises:
        UsageError: the recipe or the data cannot be used. OutputError: a file cannot be written.
        MissingExtra, ClusterError: the engine cannot be had, or its workers are gone.
    """
    started, done = time.perf_counter(), 0.0

    def show(_name: str, share: float) -> None:
        nonlocal done
        advance(share - done)
        done = share

    connect = partial(connected, engine, usable_cores()) if engine else None
    train_zoo(recipe, data, out, show, device_of(device), connect)
    if networks:
        export_zoo(out, [plan.name for plan in family_plans(read_recipe(recipe))], data)
    files = [open_checkpoint(path) for path in sorted(out.glob("*.safetensors"))]
    count = sum(file.infos["score"].shape[0] for file in files)
    return ZooReport(out, len(files), count, time.perf_counter() - started)


def prepare(
    recipe: Path, zoo: Path, data: Path, out: Path, resume: bool, workers: Workers,
    network: str | None = None, device: str = "cpu",
) -> TrainingSession:  # fmt: skip
    """Everything that a run needs, from its beginning or from where it was saved.

    `network` names the aligner that a recipe with a [search] finds a refiner for. Autoencoders are trained on
    `device`, aligners on the CPU.

    Raises:
        UsageError: the recipe, the device, the network, the zoo or the data cannot be used, or `out` holds
        a run and `resume` is not given, or the other way round. CheckpointError: the network, a family's
        file or the saved run is broken.
    """
    table = read_recipe(recipe)
    check_tables(table)
    _check_recipe(table, network)
    if "autoencoder" in table:
        return _prepare_autoencoder(table, zoo, data, out, resume, workers, device)
    if device != "cpu":
        raise UsageError(
            f"--device {device} is for zoos and autoencoders.", "an aligner is trained on the CPU."
        )
    if network is not None:
        return _prepare_search(table, zoo, data, out, resume, workers, network)
    encoder, plan = read_plan(table)
    _check_state(out, resume)
    run, pool = start(encoder, plan), load_pool(zoo, data)
    if resume:
        load_state(run, plan, pool, out / STATE)

    def work(last: int, advance: Callable[[int, str], None]) -> None:
        train(run, plan, pool, out, advance, workers, last)

    return _of_steps(run, plan.steps, out, workers, work)


def _of_steps(
    run: TrainingRun | AutoencoderRun, steps: int, out: Path, workers: Workers,
    work: Callable[[int, Callable[[int, str], None]], None],
) -> TrainingSession:  # fmt: skip
    """The session of a run that takes steps up to a last one."""

    def done(last: int, advance: Callable[[int, str], None]) -> tuple[int, float]:
        work(last, advance)
        workers.leave()
        return run.step, run.best

    return TrainingSession("training", "step", run.step, steps, out, done)


def _prepare_autoencoder(
    recipe: Mapping[str, Any], zoo: Path, data: Path, out: Path, resume: bool, workers: Workers, device: str
) -> TrainingSession:
    """An autoencoder's run, from its beginning or from where it was saved."""
    encoder, decoder, plan = read_autoencoder_plan(recipe)
    where = device_of(device)
    _check_state(out, resume)
    corpus = load_corpus(zoo, data).on(where)
    run = start_autoencoder(encoder, decoder, plan, corpus, resumed=resume)
    if resume:
        load_autoencoder_state(run, plan, corpus, out / STATE)

    def work(last: int, advance: Callable[[int, str], None]) -> None:
        train_autoencoder(run, plan, corpus, out, advance, workers, last)

    return _of_steps(run, plan.steps, out, workers, work)


def _prepare_search(
    recipe: Mapping[str, Any], zoo: Path, data: Path, out: Path, resume: bool, workers: Workers, network: str
) -> TrainingSession:
    """A fresh refiner behind an aligner, and what it is searched with."""
    plan = make(Search, recipe["search"], "search")
    if resume:
        hint = "leave --resume out, and name another --out."
        raise UsageError("a [search] takes minutes and is not resumed.", hint)
    if workers.count > 1:
        raise UsageError("a [search] runs in one process.", "start it without accelerate or torchrun.")
    _check_unused(out, "name another --out.")
    model = load_pretrained(network)
    add_refiner(model, recipe["refiner"])
    pool = load_pool(zoo, data)

    def work(last: int, advance: Callable[[int, str], None]) -> tuple[int, float]:
        return last, write_searched(model, pool, replace(plan, trials=last), out, advance)

    return TrainingSession("searching", "trial", 0, plan.trials, out, work)


def _check_state(out: Path, resume: bool) -> None:
    if resume and not (out / STATE).exists():
        raise UsageError(f"there is no run to resume in '{out}'.", "leave --resume out.")
    if not resume:
        _check_unused(out, "continue it with --resume, or name another --out.")


def _check_unused(out: Path, hint: str) -> None:
    if any((out / name).exists() for name in (STATE, BEST, LOG)):
        raise UsageError(f"'{out}' holds a run already.", hint)


def _check_recipe(recipe: Mapping[str, Any], network: str | None) -> None:
    """Check which tables go together: an encoder is trained, a refiner for a trained one is searched for."""
    refines = "refiner" in recipe
    problems = (
        ("search" in recipe and "train" in recipe, "the recipe has both a [train] and a [search].",
         "leave one out: an encoder is trained, a refiner's weights are searched for."),
        ("search" in recipe and not refines, "the recipe has a [search], but no [refiner].", _BOTH),
        (refines and "search" not in recipe, "the recipe has a [refiner], but no [search].", _BOTH),
        ("autoencoder" in recipe and "network" in recipe,
         "the recipe has both a [network] and an [autoencoder].", "leave one out."),
        ("autoencoder" in recipe and ("search" in recipe or refines),
         "the recipe has an [autoencoder] and a [refiner] or [search].", "leave one out."),
        (refines and "network" in recipe, "the recipe has both a [network] and a [refiner].",
         "train the network first; the refiner's recipe takes it from --network."),
        (refines and network is None, "a recipe with a [refiner] needs the aligner that it refines.",
         "add --network: one that comes with deepalign, or a path."),
        (not refines and network is not None, "--network is for a recipe with a [refiner].", "leave it out."),
    )  # fmt: skip
    for is_wrong, message, hint in problems:
        if is_wrong:
            raise UsageError(message, hint)
