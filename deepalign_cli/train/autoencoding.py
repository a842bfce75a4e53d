"""Training an autoencoder of weights: what is written shall compute what was read.

There is no loss on the weights themselves (Boufalis et al. 2025): of fields it is the squared error of the
values, of classifiers the divergence of the answers to unlabelled images. All randomness of a step comes
from (step, worker), so that a run that was stopped and resumed takes the very steps of an unbroken one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.integers import check_integers
from deepalign_cli.network.autoencoder import Autoencoder, DecoderConfig
from deepalign_cli.network.metanetworks import METANETWORKS, make_metanetwork, metanetwork_table
from deepalign_cli.network.saved_autoencoder import save_autoencoder
from deepalign_cli.train.corpus import Corpus, accuracy
from deepalign_cli.train.functional_losses import outputs_of, psnr
from deepalign_cli.train.log import append, finite, forget_after
from deepalign_cli.train.loop import BEST, LOG, STATE
from deepalign_cli.train.recipes import check_encoder, check_tables, make
from deepalign_cli.train.run_state import generator_of, opened_state, write_state
from deepalign_cli.train.teaching import taught_network
from deepalign_cli.train.workers import Workers

_KEEP_EVERY = 100  # steps: what an interruption may cost
_LAST = 0.02  # the learning rate's share at the end
_LEAST = {"steps": 1, "batch": 1, "warmup": 0, "inputs": 0, "validate_every": 1, "seed": 0, "taught": 0}


@dataclass(frozen=True)
class AutoencoderPlan:
    """How an autoencoder is trained: AdamW, a linear warm-up, then a cosine to a fiftieth of the rate.

    `batch` networks a step, compared on `inputs` of the places or images (0: all of them). Fields are moved
    at random by up to `augment` (`Corpus.moved`), weights of classifiers by that share of themselves
    (`Corpus.shaken`). Of classifiers the decoder begins near one that was first taught for `taught` steps to
    answer as all do on average (`teaching.py`). The decoder's last layer learns at the share `last` of the
    rate: Adam moves its many inputs together. `clip` is the largest norm of a gradient, `temperature`
    that of classifiers' answers.
    """

    steps: int = 10000
    rate: float = 1e-3
    decay: float = 1e-2
    batch: int = 32
    warmup: int = 200
    clip: float = 1.0
    inputs: int = 0
    augment: float = 0.0
    temperature: float = 0.6
    taught: int = 0
    last: float = 1.0
    validate_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        check_integers(self, _LEAST)
        for name in ("rate", "decay", "clip", "augment", "temperature", "last"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, not {value!r}")
        if self.augment >= 1:
            raise ValueError(f"augment must be below 1, not {self.augment!r}")
        if not self.temperature or not self.clip:
            raise ValueError("clip and temperature must be above 0")

    def share(self, step: int) -> float:
        """Which share of the rate a step has."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        past = (step - self.warmup) / max(1, self.steps - self.warmup)
        return _LAST + (1 - _LAST) * (1 + math.cos(math.pi * min(1.0, past))) / 2


@dataclass
class AutoencoderRun:
    """A run's state, all of which `last.pt` holds; `recent` are the losses not yet logged."""

    model: Autoencoder
    optimiser: torch.optim.Optimizer
    step: int = 0
    best: float = math.inf
    seconds: float = 0.0
    recent: list[float] = field(default_factory=list)


def read_autoencoder_plan(recipe: Mapping[str, Any]) -> tuple[dict[str, Any], DecoderConfig, AutoencoderPlan]:
    """The metanetwork's table, the decoder and the plan of a recipe's tables.

    Raises:
        UsageError: a table or an entry is not known.
    """
    check_tables(recipe)
    table = dict(recipe["autoencoder"])
    hidden = {"hidden": table.pop("decoder")} if "decoder" in table else {}
    decoder = make(DecoderConfig, hidden, "autoencoder")
    check_encoder(table, "autoencoder", METANETWORKS, "scalegmn")
    return table, decoder, make(AutoencoderPlan, recipe.get("train", {}), "train")


def start_autoencoder(
    table: Mapping[str, Any], decoder: DecoderConfig, plan: AutoencoderPlan, corpus: Corpus, *,
    resumed: bool = False,
) -> AutoencoderRun:  # fmt: skip
    """A fresh run, whose decoder begins near `Corpus.start`, or near what was taught.

    Where it is to be `resumed` from a saved state nothing is taught.
    """
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        model = Autoencoder(corpus.blueprint, make_metanetwork(corpus.blueprint, table), decoder)
    teaches = plan.taught and not corpus.field and not resumed
    start = taught_network(corpus, plan.taught, plan.temperature) if teaches else corpus.start(plan.seed)
    start = {name: w.cpu() for name, w in start.items()}
    model.begin({n: w.cpu() for n, w in corpus.stack(corpus.train).items()}, start)
    model.to(corpus.inputs.device)
    last = list(model.decoder[-1].parameters())
    others = [p for p in model.parameters() if all(p is not one for one in last)]
    groups = [{"params": others, "share": 1.0}, {"params": last, "share": plan.last}]
    optimiser = torch.optim.AdamW(groups, lr=plan.rate, weight_decay=plan.decay, fused=True)
    return AutoencoderRun(model, optimiser)


def train_autoencoder(
    run: AutoencoderRun, plan: AutoencoderPlan, corpus: Corpus, out: Path,
    advance: Callable[[int, str], None], workers: Workers | None = None, stop: int | None = None,
) -> None:  # fmt: skip
    """Train up to the plan's last step (or `stop`), writing `last.pt`, `best.safetensors` and `log.jsonl`.

    Raises:
        OutputError: a file cannot be written.
    """
    workers = workers or Workers()
    workers.wait()
    if workers.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        forget_after(out / LOG, run.step)
        save_autoencoder_state(run, plan, corpus, out / STATE)
    last = min(stop or plan.steps, plan.steps)
    started = time.perf_counter() - run.seconds
    while run.step < last:
        run.recent.append(_step(run, plan, corpus, workers))
        run.seconds = time.perf_counter() - started
        advance(run.step, f"loss {run.recent[-1]:.4f}")
        if run.step % plan.validate_every == 0 or run.step == plan.steps:
            if workers.rank == 0:
                _report(run, plan, corpus, out)
            run.recent = []
            workers.wait()
        if workers.rank == 0 and (run.step % min(_KEEP_EVERY, plan.validate_every) == 0 or run.step == last):
            save_autoencoder_state(run, plan, corpus, out / STATE)


def _step(run: AutoencoderRun, plan: AutoencoderPlan, corpus: Corpus, workers: Workers) -> float:
    rng = generator_of(workers.rank, run.step)
    chosen = corpus.train[torch.randint(len(corpus.train), (plan.batch,), generator=rng)]
    x = corpus.inputs
    if 0 < plan.inputs < len(x):
        x = x[torch.randperm(len(x), generator=rng)[: plan.inputs].to(x.device)]
    read = corpus.stack(chosen)
    if plan.augment:
        change = corpus.moved if corpus.field else corpus.shaken
        read = change(read, plan.augment, rng)
    loss = corpus.errors(run.model(read), read, x, plan.temperature).mean()
    for group in run.optimiser.param_groups:
        group["lr"] = plan.rate * plan.share(run.step) * group["share"]
    run.optimiser.zero_grad()
    torch.autograd.backward(loss)
    workers.average(run.model)
    norm = torch.nn.utils.clip_grad_norm_(run.model.parameters(), plan.clip)
    if norm.isfinite():
        run.optimiser.step()
    run.step += 1
    return float(loss.detach())


@torch.no_grad()
def validate_autoencoder(model: Autoencoder, plan: AutoencoderPlan, corpus: Corpus) -> dict[str, float]:
    """The mean `error` of the held-out networks, and in words that people know: `psnr` or `agreement`.

    PSNR is in decibels, of the mean squared error; agreement is the share of test images that the
    written network gives the same answer for as the one that was read.
    """
    errors, agreement = [], []
    for part in torch.split(corpus.held, plan.batch):
        read = corpus.stack(part)
        written = model(read)
        errors.append(corpus.errors(written, read, corpus.judged, plan.temperature))
        if not corpus.field:
            answers = outputs_of(corpus.design, read, corpus.judged)
            agreement.append(accuracy(corpus, written, answers) * len(part))
    error = float(torch.cat(errors).mean())
    if corpus.field:
        return {"error": error, "psnr": psnr(error)}
    return {"error": error, "agreement": sum(agreement) / len(corpus.held)}


def _report(run: AutoencoderRun, plan: AutoencoderPlan, corpus: Corpus, out: Path) -> None:
    """Validate, keep the autoencoder if it is the best so far, and add a line to the log."""
    figures = validate_autoencoder(run.model, plan, corpus)
    better = figures["error"] < run.best
    if better:
        run.best = figures["error"]
        facts = {"step": str(run.step), **{name: f"{x:.6g}" for name, x in figures.items()}}
        save_autoencoder(out / BEST, run.model, facts, force=True)
    loss = finite(sum(run.recent) / len(run.recent)) if run.recent else None
    shown = {name: finite(x) for name, x in figures.items()}
    line = {"step": run.step, "seconds": round(run.seconds, 3), "loss": loss, **shown, "best": better}
    append(out / LOG, line)


def save_autoencoder_state(run: AutoencoderRun, plan: AutoencoderPlan, corpus: Corpus, path: Path) -> None:
    """Write everything that going on needs; the file appears whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    state = {
        "model": run.model.state_dict(), "optimiser": run.optimiser.state_dict(), "step": run.step,
        "best": run.best, "seconds": run.seconds, "recent": run.recent, **_identity(run, plan, corpus),
    }  # fmt: skip
    write_state(path, state)


def load_autoencoder_state(run: AutoencoderRun, plan: AutoencoderPlan, corpus: Corpus, path: Path) -> None:
    """Go on from a saved state.

    Raises:
        UsageError: it is of another recipe or zoo. CheckpointError: it is broken.
    """
    with opened_state(path) as state:
        for name, value in _identity(run, plan, corpus).items():
            if state[name] != value:
                raise UsageError(
                    f"the saved run has another {name} than this one.",
                    "continue with the recipe and the zoo that it was started with, or give another --out.",
                )
        run.model.load_state_dict(state["model"])
        run.optimiser.load_state_dict(state["optimiser"])
        run.step, run.best = state["step"], state["best"]
        run.seconds, run.recent = state["seconds"], state["recent"]


def _identity(run: AutoencoderRun, plan: AutoencoderPlan, corpus: Corpus) -> dict[str, Any]:
    """What a resumed run must share with the one that was stopped."""
    network = {**metanetwork_table(run.model.encoder), "decoder": list(run.model.config.hidden)}
    return {"autoencoder": network, "plan": asdict(plan), "families": list(corpus.names)}
