"""The options that several commands share, each said once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path as _Path
from typing import Annotated

import typer

from deepalign_cli.symmetry.spec import Activation as ActivationName

_INPUT = "What the networks are"
_METHOD = "How to align"
_OUTPUT = "Output"


class MethodName(StrEnum):
    """The ways to find an alignment."""

    WEIGHTS = "weights"
    NONE = "none"


class PathName(StrEnum):
    """The ways from one network to another."""

    LINEAR = "linear"
    SLERP = "slerp"


OptionalPath = _Path | None

CheckpointA = Annotated[
    _Path,
    typer.Argument(metavar="A", help="The reference: a .safetensors or PyTorch file, or a folder."),
]
CheckpointB = Annotated[
    _Path,
    typer.Argument(metavar="B", help="The checkpoint that moves: a file or a folder like A."),
]

Spec = Annotated[
    _Path | None,
    typer.Option(
        "--spec",
        metavar="FILE.toml",
        help="Read the symmetry spec from this file instead of finding it out; "
        "'deepalign inspect A --spec' writes one.",
        rich_help_panel=_INPUT,
    ),
]
Activation = Annotated[
    ActivationName | None,
    typer.Option(
        "--activation",
        help="The hidden units' non-linearity: tanh and sin also allow sign flips, "
        "relu and leaky_relu also allow rescaling.",
        rich_help_panel=_INPUT,
    ),
]
Heads = Annotated[
    int | None,
    typer.Option(
        "--heads",
        metavar="N",
        min=1,
        help="Attention heads of a transformer, which shapes alone do not tell.",
        rich_help_panel=_INPUT,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FILE.py:FACTORY",
        help="A callable in your own file that returns the nn.Module. This runs your code.",
        rich_help_panel=_INPUT,
    ),
]

Method = Annotated[
    MethodName,
    typer.Option(
        "--method",
        "-m",
        help="weights: match units by their weights, no data needed. none: leave B as it is (the baseline).",
        rich_help_panel=_METHOD,
    ),
]
Restarts = Annotated[
    int | None,
    typer.Option(
        "--restarts",
        metavar="N",
        min=1,
        help="Try N random orders and keep the closest; more by default for small networks.",
        rich_help_panel=_METHOD,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        max=2**63 - 1,  # torch's generators take no more
        help="Where the random numbers start; the same seed gives the same result.",
        rich_help_panel=_METHOD,
    ),
]
AlignmentFile = Annotated[
    _Path | None,
    typer.Option(
        "--alignment",
        metavar="FILE",
        help="Use this saved alignment instead of computing one.",
        rich_help_panel=_METHOD,
    ),
]

OutputPath = Annotated[
    _Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="The .safetensors file to write.",
        rich_help_panel=_OUTPUT,
    ),
]
SaveAlignment = Annotated[
    _Path | None,
    typer.Option(
        "--save-alignment",
        metavar="FILE",
        help="Also keep the alignment itself (a few kB), for --alignment later.",
        rich_help_panel=_OUTPUT,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Overwrite files that exist, and use an alignment of other inputs.",
        rich_help_panel=_OUTPUT,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object (errors too, on stderr).", rich_help_panel=_OUTPUT),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        help="Print the output's path, if there is one, and nothing else.",
        rich_help_panel=_OUTPUT,
    ),
]
