"""The options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path as _Path
from typing import Annotated

import typer

from deepalign_cli.checkpoint.hub import set_offline as _set_offline
from deepalign_cli.symmetry.spec import Activation as ActivationName

_INPUT = "What the networks are"
_METHOD = "How to align"
_OUTPUT = "Output"


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
