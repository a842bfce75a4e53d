"""`deepalign zoo`: many small networks, for an aligner to be trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepalign_cli.cli import options
from deepalign_cli.cli.output import Output

Recipe = Annotated[
    Path,
    typer.Argument(metavar="RECIPE.toml", help="The recipe; docs/training.md describes its entries."),
]
Data = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="The folder of the data sets, each a NAME.npz of images and labels.",
    ),
]


def zoo(
    recipe: Recipe,
    data: Data,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", file_okay=False, help="The folder of the zoo."),
    ],
    networks: Annotated[
        bool,
        typer.Option(
            "--networks",
            help="Also write each network to DIR/FAMILY/NN.safetensors, a checkpoint that says what "
            "computes with it and how its inputs are prepared.",
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a zoo: families of networks to train an aligner on.

    Every family is some networks of one design on one task, each from its own initialisation, trained at
    once and written to one file. Families whose file is there are left as they are, so an interrupted zoo
    goes on where it was.

    Example:
        deepalign zoo universal-v1.zoo.toml --data data --out zoo
    """
    output = Output("zoo", json=json, quiet=quiet)
    from deepalign_cli.operations.train import make_zoo

    with output.progress("training the zoo", 100, "%") as advance:
        report = make_zoo(recipe, data, out, lambda share: advance(100 * share), networks)
    payload = {
        "output": report.output,
        "families": report.families,
        "networks": report.networks,
        "seconds": report.seconds,
    }
    text = (
        f"{report.networks} networks of {report.families} families in {report.output}, "
        f"in {report.seconds:.1f} s"
    )
    output.result(payload, lambda console: console.print(text), report.output)
