"""`deepalign train`: an aligner from a zoo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepalign_cli.cli import options
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.zoo import Data, Recipe

if TYPE_CHECKING:
    from deepalign_cli.operations.train import TrainReport


def train(
    recipe: Recipe,
    zoo: Annotated[
        Path,
        typer.Option(
            "--zoo", metavar="DIR", exists=True, file_okay=False, help="The zoo: what 'deepalign zoo' wrote."
        ),
    ],
    data: Data,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            file_okay=False,
            help="The folder of the run: best.safetensors, log.jsonl, last.pt.",
        ),
    ],
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="NAME|PATH",
            help="The trained aligner that a recipe with a [refiner] is for; its encoder stays as it is.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, as if it had not stopped.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            min=1,
            help="Stop after step N, on the recipe's schedule; --resume goes on. A [search]: after trial N.",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train an aligner on a zoo, or find a refiner for a trained one.

    The network that validates best is kept in best.safetensors; 'deepalign align' takes it by --network.
    An interrupted run goes on by --resume, with the same result; a recipe's [search], which takes minutes,
    begins anew. Under 'accelerate launch' or torchrun the processes average their gradients.

    Example:
        deepalign train universal-v1.toml --zoo zoo --data data --out run
        deepalign train refiner.toml --network run/best.safetensors --zoo zoo --data data --out refined
    """
    output = Output("train", json=json, quiet=quiet)
    from deepalign_cli.operations.train import prepare
    from deepalign_cli.train.workers import Workers

    workers = Workers()
    shown = output if workers.rank == 0 else Output("train", quiet=True)  # one process speaks for all
    with shown.progress("reading the zoo"):
        session = prepare(recipe, zoo, data, out, resume, workers, network)
    with shown.progress(session.label, session.left(steps), session.unit) as advance:
        report = session.go(steps, lambda _step, _words: advance())
    if workers.rank == 0:
        _show(output, report)


def _show(output: Output, report: TrainReport) -> None:
    payload = {
        "output": report.output,
        "steps": report.steps,
        "score": report.score,
        "seconds": report.seconds,
    }
    lines = [f"{report.unit} {report.steps} of {report.of}, in {report.seconds:.1f} s"]
    if report.output is None:
        lines.append("there is no best network: nothing was validated yet, or to no finite score")
    else:
        lines.append(f"wrote {report.output} (best score {report.score:.4f}; less is better)")
    output.result(payload, lambda console: console.print("\n".join(lines)), report.output)
