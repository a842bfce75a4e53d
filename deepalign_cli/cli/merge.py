"""`deepalign merge`: align all inputs to the first and average."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deepalign_cli.cli import options
from deepalign_cli.cli.align import default_output, make_settings, show, total_bytes
from deepalign_cli.cli.grouped import grouped
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.sharing import SharingOptions, target_of, words
from deepalign_cli.errors import UsageError
from deepalign_cli.network.pretrained import network_name

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
Target = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="OUT", rich_help_panel="Output",
        help="The .safetensors file to write; or OUT/, a folder with A's configuration and tokenizer and a "
        "model card too.",
    ),
]  # fmt: skip


@grouped
def merge(
    inputs: options.Inputs,
    output: Target = None,
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
    *,
    sharing: SharingOptions,
    offline: options.Offline = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Align checkpoints to the first and average them.

    Two inputs give (1 - alpha) A + alpha aligned(B). Integer buffers come from A. BatchNorm statistics
    are averaged too, with a note. Without -o the output is A's name with '.merged.safetensors', in this
    folder.

    A folder, -o OUT/, is ready for a hub: model.safetensors, config.json and the tokenizer's files where A
    has them, and a README.md that tells how it was made. --push uploads it.

    Example:
        deepalign merge a.pt b.pt --alpha 0.5 -o merged.safetensors
        deepalign merge a.pt b.pt c.pt --weights 2,1,1
        deepalign merge hf://org/a hf://org/b -o merged/
    """
    out = Output("merge", json=json, quiet=quiet)
    if len(inputs) < 2:
        raise UsageError("merge needs at least two checkpoints.", "deepalign merge A B --alpha 0.5")
    shares = _shares(inputs, alpha, weights)
    settings = make_settings(
        method, restarts, seed, spec, activation, heads, force,
        network=network, refine=refine, sketches=sketches, alignments=alignment,
    )  # fmt: skip
    sharing.check()
    target, is_folder = target_of(output, sharing.push, default_output(inputs[0], "merged"))
    from deepalign_cli.merge import Path as Interpolation
    from deepalign_cli.operations.combine import Job, merge_files
    from deepalign_cli.operations.folder import Story, merge_folder

    job = Job(tuple(inputs), target, settings, tuple(alignment or ()), save_alignment)
    named = sharing.push.split("/")[1] if sharing.push else target.resolve().name
    given = {
        "--alpha": alpha, "--weights": weights, "--path": path, "-m": method,
        "--network": network and network_name(network), "--refine": refine, "--sketches": sketches,
        "--restarts": restarts, "--seed": seed, "--spec": spec, "--activation": activation,
        "--heads": heads, "--alignment": alignment, "-o": f"{named}/",
    }  # fmt: skip
    what = f"{len(inputs)} networks"
    files: tuple[str, ...] = ()
    with out.progress(f"aligning {what}", total_bytes(inputs[0]), "B", then=f"merging {what}") as advance:
        if is_folder:
            made = merge_folder(job, Story(named, words(given)), shares, Interpolation(path), advance)
            report, files = made.report, made.files
        else:
            report = merge_files(job, shares, Interpolation(path), advance)
    more: dict[str, object] = {"weights": shares} if weights or len(inputs) > 2 else {"alpha": shares[1]}
    more |= {"files": files} if is_folder else {}
    more |= {"pushed": sharing.upload(out, target, files)} if sharing.push else {}
    show(out, report, more)


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
