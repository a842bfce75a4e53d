"""The options that several commands share, each said once, and which of them go together."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path as _Path
from typing import Annotated

import typer

from deepalign_cli.checkpoint.hub import set_offline as _set_offline
from deepalign_cli.network.pretrained import DEFAULT_NETWORK
from deepalign_cli.symmetry.spec import Activation as ActivationName

_INPUT = "What the networks are"
_METHOD = "How to align"
_OUTPUT = "Output"


class MethodName(StrEnum):
    """The ways to find an alignment."""

    DEEPALIGN = "deepalign"
    WEIGHTS = "weights"
    ACTIVATIONS = "activations"
    DUAL = "dual"
    NONE = "none"


class RefineName(StrEnum):
    """What is done to a prediction of `deepalign` before it is used."""

    AUTO = "auto"
    NONE = "none"
    WEIGHTS = "weights"
    PRIOR = "prior"
    ACTIVATIONS = "activations"


class PathName(StrEnum):
    """The ways from one network to another."""

    LINEAR = "linear"
    SLERP = "slerp"


OptionalPath = _Path | None

CheckpointA = Annotated[
    _Path,
    typer.Argument(
        metavar="A", help="The reference: a .safetensors or PyTorch file, a folder, or hf://ORG/REPO."
    ),
]
CheckpointB = Annotated[
    _Path,
    typer.Argument(metavar="B", help="The checkpoint that moves: a file, a folder or hf://ORG/REPO like A."),
]
Inputs = Annotated[
    list[_Path],
    typer.Argument(
        metavar="A B [C ...]",
        help="Two or more checkpoints, all aligned to the first: files, folders, or "
        "hf://ORG/REPO[@REVISION][/FILE].",
    ),
]


def _offline(value: bool) -> bool:
    _set_offline(value)
    return value


Offline = Annotated[
    bool,
    typer.Option(
        "--offline",
        callback=_offline,
        help="Ask the Hugging Face Hub nothing: hf:// is what its cache holds.",
        rich_help_panel=_INPUT,
    ),
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
# Those of how to align are None where they are not given: what has no effect is refused.
Method = Annotated[
    MethodName | None,
    typer.Option(
        "--method",
        "-m",
        help="deepalign, the default: a trained network predicts the match in one pass. weights: units are "
        "matched by their weights, step by step. activations: by what they answer to --data. dual: by both. "
        "none: B stays as it is (the baseline).",
        rich_help_panel=_METHOD,
    ),
]
Network = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NAME|PATH|hf://ORG/REPO",
        help=f"The trained network of -m deepalign: one that comes with it ({DEFAULT_NETWORK} by default), a "
        "file, or one of the Hugging Face Hub (hf://org/repo@revision/file).",
        rich_help_panel=_METHOD,
    ),
]
Refine = Annotated[
    RefineName | None,
    typer.Option(
        "--refine",
        help="What becomes of the prediction of -m deepalign. none: it is used as it is. prior: weights "
        "decide where it hesitates. weights: weight matching starts from it. activations: what units "
        "answer to --data counts too. auto, the default: with --data what has the lowest loss half-way; "
        "without, prior where it is sure, else weights.",
        rich_help_panel=_METHOD,
    ),
]
Sketches = Annotated[
    int | None,
    typer.Option(
        "--sketches",
        metavar="N",
        min=1,
        max=64,
        help="How many random readings of inputs and outputs -m deepalign averages over; 8 by default.",
        rich_help_panel=_METHOD,
    ),
]
Share = Annotated[
    float | None,
    typer.Option(
        "--share",
        metavar="X",
        min=0.0,
        max=1.0,
        help="How much activations count for -m dual beside weights; 0.5 by default.",
        rich_help_panel=_METHOD,
    ),
]
Restarts = Annotated[
    int | None,
    typer.Option(
        "--restarts",
        metavar="N",
        min=1,
        help="Weight matching tries N random orders and keeps the closest; more by default for small "
        "networks.",
        rich_help_panel=_METHOD,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        metavar="N",
        min=0,
        max=2**63 - 1,  # torch's generators take no more
        help="Where the random numbers start, 0 by default; the same seed gives the same result.",
        rich_help_panel=_METHOD,
    ),
]
Alignments = Annotated[
    list[_Path] | None,
    typer.Option(
        "--alignment",
        metavar="FILE",
        help="Use this saved alignment instead of computing one; repeat it for each input after the first.",
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
