"""`deepalign zoo` and `deepalign train`: many small networks, and an aligner trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepalign_cli.cli.grouped import flag, option, required
from deepalign_cli.cli.options import ShowOptions
from deepalign_cli.cli.output import Output
from deepalign_cli.cluster import parse_engine

if TYPE_CHECKING:
    from deepalign_cli.operations.train import TrainReport


Recipe = Annotated[
    Path, typer.Argument(metavar="RECIPE.toml", help="The recipe; docs/training.md describes its entries.")
]


@dataclass(frozen=True)
class DataOptions:
    """The data sets of a zoo."""

    data: Path = required(
        "The folder of the data sets, each a NAME.npz of images and labels.", metavar="DIR", exists=True,
        file_okay=False,
    )  # fmt: skip


_DEVICE = "Where networks are trained; tested on the CPU only."


@dataclass(frozen=True)
class ZooOptions(DataOptions):
    """What is read and written."""

    out: Path = required("The folder of the zoo.", short="-o", metavar="DIR", file_okay=False)
    networks: bool = flag(
        "Also write each network to DIR/FAMILY/NN.safetensors, a checkpoint that records its architecture "
        "and how its inputs are prepared."
    )
    device: str = option(_DEVICE, default="cpu", metavar="cpu|cuda|mps")
    engine: str | None = option(
        "Let the workers of Dask train, a family each in one thread: processes of this machine, or those of "
        "a scheduler at an address. All hosts must see data and zoo at the same paths.",
        metavar="dask[://HOST:PORT]", parser=parse_engine,
    )  # fmt: skip


def zoo(recipe: Recipe, *, how: ZooOptions, show: ShowOptions) -> None:
    """Train a zoo: families of networks to train an aligner on.

    Every family is several networks of one design on one task, each from its own initialisation, trained
    together and written to one file. Families whose file exists are skipped, so an interrupted zoo
    continues where it stopped.

    Example:
        deepalign zoo universal-v1.zoo.toml --data data --out zoo
    """
    output = show.sink("zoo")
    from deepalign_cli.operations.train import make_zoo

    with output.progress("training the zoo") as progress:
        report = make_zoo(recipe, how.data, how.out, progress, how.networks, how.device, how.engine)
    text = (
        f"{report.networks} networks of {report.families} families in {report.output}, "
        f"in {report.seconds:.1f} s"
    )
    output.result(vars(report), text, report.output)


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
    device: str = option(
        "Where an autoencoder is trained; tested on the CPU only. Aligners are trained on the CPU.",
        default="cpu", metavar="cpu|cuda|mps",
    )  # fmt: skip


def train(recipe: Recipe, *, run: TrainOptions, show: ShowOptions) -> None:
    """Train an aligner or an autoencoder on a zoo, or find a refiner for a trained aligner.

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
        session = prepare(recipe, run.zoo, run.data, run.out, run.resume, workers, run.network, run.device)
    with shown.progress(session.label, session.left(run.steps), session.unit) as progress:
        report = session.go(run.steps, lambda _step, _words: progress())
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
