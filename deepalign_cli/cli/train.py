"""`deepalign train`: an aligner from a zoo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.cli.grouped import flag, option, required
from deepalign_cli.cli.options import ShowOptions
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.zoo import DataOptions, Recipe

if TYPE_CHECKING:
    from deepalign_cli.operations.train import TrainReport


@dataclass(frozen=True)
class TrainOptions(DataOptions):
    """What a run reads and writes."""

    zoo: Path = required("The zoo: what 'deepalign zoo' wrote.", metavar="DIR", exists=True, file_okay=False)
    out: Path = required(
        "The folder of the run: best.safetensors, log.jsonl, last.pt.", short="-o", metavar="DIR",
        file_okay=False,
    )  # fmt: skip
    network: str | None = option(
        "The trained aligner that a recipe with a [refiner] extends; its encoder does not change.",
        metavar="NAME|PATH",
    )
    resume: bool = flag("Continue the run in --out as if it had not stopped.")
    steps: int | None = option(
        "Stop after step N, on the recipe's schedule; --resume continues. With a [search]: after trial N.",
        min=1,
    )


def train(recipe: Recipe, *, run: TrainOptions, show: ShowOptions) -> None:
    """Train an aligner on a zoo, or find a refiner for a trained one.

    The network that validates best is kept in best.safetensors; pass it to 'deepalign align' as --network.
    --resume continues an interrupted run, with the same result; a recipe's [search], which takes minutes,
    starts anew. Under 'accelerate launch' or torchrun the processes average their gradients.

    Example:
        deepalign train universal-v1.toml --zoo zoo --data data --out run
        deepalign train refiner.toml --network run/best.safetensors --zoo zoo --data data --out refined
    """
    output = show.sink("train")
    from deepalign_cli.operations.train import prepare
    from deepalign_cli.train.workers import Workers

    workers = Workers()
    shown = output if workers.rank == 0 else Output("train", quiet=True)  # one process speaks for all
    with shown.progress("reading the zoo"):
        session = prepare(recipe, run.zoo, run.data, run.out, run.resume, workers, run.network)
    with shown.progress(session.label, session.left(run.steps), session.unit) as advance:
        report = session.go(run.steps, lambda _step, _words: advance())
    if workers.rank == 0:
        _show(output, report)


def _show(output: Output, report: TrainReport) -> None:
    payload = {key: getattr(report, key) for key in ("output", "steps", "score", "seconds")}
    lines = [f"{report.unit} {report.steps} of {report.of}, in {report.seconds:.1f} s"]
    if report.output is None:
        lines.append("there is no best network yet: nothing was validated, or no score was finite")
    else:
        lines.append(f"wrote {report.output} (best score {report.score:.4f}; lower is better)")
    output.result(payload, "\n".join(lines), report.output)
