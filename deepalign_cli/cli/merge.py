"""`deepalign merge`: align all inputs to the first and average."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepalign_cli.cli import options
from deepalign_cli.cli.align import default_output, make_settings, show, total_bytes
from deepalign_cli.cli.output import Output
from deepalign_cli.errors import UsageError

_PANEL = "How to merge"

Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha", metavar="X", min=0.0, max=1.0, rich_help_panel=_PANEL,
        help="The share of B, from 0 (A) to 1 (aligned B); 0.5 by default. For two inputs.",
    ),
]  # fmt: skip
Shares = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="W1,W2,...", rich_help_panel=_PANEL,
        help="The share of each input, divided by their sum; equal by default.",
    ),
]  # fmt: skip


def merge(
    inputs: options.Inputs,
    output: options.OutputPath = None,
    alpha: Alpha = None,
    weights: Shares = None,
    path: Annotated[
        options.PathName,
        typer.Option(
            "--path", rich_help_panel=_PANEL, help="The straight line, or the arc (slerp, for two inputs)."
        ),
    ] = options.PathName.LINEAR,
    method: options.Method = None,
    network: options.Network = None,
    refine: options.Refine = None,
    sketches: options.Sketches = None,
    restarts: options.Restarts = None,
    seed: options.Seed = None,
    spec: options.Spec = None,
    activation: options.Activation = None,
    heads: options.Heads = None,
    alignment: options.Alignments = None,
    save_alignment: options.SaveAlignment = None,
    offline: options.Offline = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Align checkpoints to the first and average them.

    Two inputs give (1 - alpha) A + alpha aligned(B). Integer buffers come from A. BatchNorm statistics
    are averaged too, with a note. Without -o the output is A's name with '.merged.safetensors', in this
    folder.

    Example:
        deepalign merge a.pt b.pt --alpha 0.5 -o merged.safetensors
        deepalign merge a.pt b.pt c.pt --weights 2,1,1
    """
    out = Output("merge", json=json, quiet=quiet)
    if len(inputs) < 2:
        raise UsageError("merge needs at least two checkpoints.", "deepalign merge A B --alpha 0.5")
    shares = _shares(inputs, alpha, weights)
    settings = make_settings(
        method, restarts, seed, spec, activation, heads, force,
        network=network, refine=refine, sketches=sketches, alignments=alignment,
    )  # fmt: skip
    from deepalign_cli.merge import Path as Interpolation
    from deepalign_cli.operations.combine import Job, merge_files

    target = output or default_output(inputs[0], "merged")
    job = Job(tuple(inputs), target, settings, tuple(alignment or ()), save_alignment)
    what = f"{len(inputs)} networks"
    size = total_bytes(inputs[0])
    with out.progress(f"aligning {what}", size, "B", then=f"merging {what}") as advance:
        report = merge_files(job, shares, Interpolation(path), advance)
    show(out, report, {"weights": shares} if weights or len(inputs) > 2 else {"alpha": shares[1]})


def _shares(inputs: list[Path], alpha: float | None, weights: str | None) -> list[float]:
    if alpha is not None and (weights is not None or len(inputs) > 2):
        raise UsageError(
            "--alpha is for two inputs, without --weights.", "give every input its share: --weights 2,1,1"
        )
    if weights is None:
        other = 0.5 if alpha is None else alpha
        return [1 - other, other] if len(inputs) == 2 else [1 / len(inputs)] * len(inputs)
    try:
        return [float(part) for part in weights.split(",")]
    except ValueError:
        raise UsageError(f"'{weights}' is not a list of numbers.", "write --weights 2,1,1") from None
