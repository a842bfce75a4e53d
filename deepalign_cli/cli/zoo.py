"""`deepalign zoo`: many small networks, for an aligner to be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from deepalign_cli.cli.grouped import flag, required
from deepalign_cli.cli.options import ShowOptions

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


@dataclass(frozen=True)
class ZooOptions(DataOptions):
    """What is read and written."""

    out: Path = required("The folder of the zoo.", short="-o", metavar="DIR", file_okay=False)
    networks: bool = flag(
        "Also write each network to DIR/FAMILY/NN.safetensors, a checkpoint that records its architecture "
        "and how its inputs are prepared."
    )


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

    with output.progress("training the zoo", 100, "%") as advance:
        report = make_zoo(recipe, how.data, how.out, lambda share: advance(100 * share), how.networks)
    text = (
        f"{report.networks} networks of {report.families} families in {report.output}, "
        f"in {report.seconds:.1f} s"
    )
    output.result(vars(report), text, report.output)
