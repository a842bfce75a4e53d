"""`deepalign merge`: align all inputs to the first and average."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepalign_cli.cli import options
from deepalign_cli.cli.align import default_output, show, total_bytes
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.grouped import grouped
from deepalign_cli.cli.options import MethodName
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.sharing import SharingOptions, target_of, typed, without_folder, words
from deepalign_cli.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.combine import Job, Report
    from deepalign_cli.operations.merged_folder import Story

_PANEL = "How to merge"
_ALIGNING, _RUNNING, _SHARING = AligningOptions(), RunningOptions(), SharingOptions()

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
Repair = Annotated[
    str | None,
    typer.Option(
        "--repair", metavar="SOURCE", rich_help_panel=_PANEL,
        help="Repair the merged network on training examples of this data (as --data takes it, and in its "
        "place): BatchNorm is re-estimated; other layers get the statistics between their parents' (REPAIR).",
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
    repair: Repair = None,
    method: options.Method = None,
    aligning: AligningOptions = _ALIGNING,
    alignment: options.Alignments = None,
    save_alignment: options.SaveAlignment = None,
    running: RunningOptions = _RUNNING,
    sharing: SharingOptions = _SHARING,
    offline: options.Offline = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Align checkpoints to the first and average them.

    Two inputs give (1 - alpha) A + alpha aligned(B). Integer buffers come from A. BatchNorm statistics
    are averaged too, with a note; --repair re-estimates them on data. Without -o the output is A's name
    with '.merged.safetensors', in this folder.

    A folder, -o OUT/, is ready for a hub: model.safetensors, config.json and the tokenizer's files where A
    has them, and a README.md that tells how it was made, with --data also what it costs. --push uploads it.

    Example:
        deepalign merge a.pt b.pt --alpha 0.5 -o merged.safetensors
        deepalign merge a.pt b.pt c.pt --weights 2,1,1
        deepalign merge a.pt b.pt --repair mnist.npz --normalise standard --activation relu
        deepalign merge hf://org/a hf://org/b -o merged/
    """
    out = Output("merge", json=json, quiet=quiet)
    if len(inputs) < 2:
        raise UsageError("merge needs at least two checkpoints.", "deepalign merge A B --alpha 0.5")
    shares = _shares(inputs, alpha, weights)
    methods = [method or MethodName.DEEPALIGN]
    settings = make_settings(methods, aligning, alignment, force=force, explicit=method is not None)
    running = running if running.data else replace(running, data=repair)
    sharing.check()
    target, is_folder = target_of(output, sharing.push, default_output(inputs[0], "merged"))
    from deepalign_cli.operations.combine import Job
    from deepalign_cli.operations.merged_folder import Story, check_folder

    told = is_folder and len(inputs) == 2 and not alignment  # its card says what such a merge costs
    check_data([] if alignment else methods, aligning, running, elsewhere=told or repair is not None)
    reads = running.files() + (replace(running, model=None, loss=None, data=repair).files() if repair else [])
    job = Job(
        tuple(inputs), target, settings, tuple(alignment or ()), save_alignment, running.subject(), repair,
        tuple(reads),
    )  # fmt: skip
    named = sharing.push.split("/")[1] if sharing.push else target.resolve().name
    given = {
        "--alpha": alpha, "--weights": weights, "--path": path, "--repair": repair and without_folder(repair),
        "-m": method, **typed(aligning), "--alignment": alignment, **typed(running), "-o": f"{named}/",
    }  # fmt: skip
    story = Story(named, words(given))
    with tempfile.TemporaryDirectory() as scratch:
        if told and running.data:
            check_folder(job)
            story = _told(out, job, methods, story, Path(scratch))
        report, files = _merged(out, job, story, shares, path, is_folder=is_folder)
    more: dict[str, object] = {"weights": shares} if weights or len(inputs) > 2 else {"alpha": shares[1]}
    more |= {"files": files} if is_folder else {}
    more |= {"pushed": sharing.upload(out, target, files)} if sharing.push else {}
    show(out, replace(report, notes=tuple(n for n in report.notes if n not in story.notes)), more)


def _merged(
    out: Output, job: Job, story: Story, shares: list[float], path: options.PathName, *, is_folder: bool
) -> tuple[Report, tuple[str, ...]]:
    """Merge into a file, or into a folder whose files are named too."""
    from deepalign_cli.merge.linear import Path as Interpolation
    from deepalign_cli.operations.combine import merge_files
    from deepalign_cli.operations.merged_folder import merge_folder

    what, size = f"{len(job.inputs)} networks", total_bytes(job.inputs[0])
    with out.progress(f"aligning {what}", size, "B", then=f"merging {what}") as advance:
        if not is_folder:
            return merge_files(job, shares, Interpolation(path), advance), ()
        made = merge_folder(job, story, shares, Interpolation(path), advance)
        return made.report, made.files


def _told(out: Output, job: Job, methods: list[MethodName], story: Story, scratch: Path) -> Story:
    """The card's story with the barrier curves of this merge, and their picture where it can be drawn."""
    from deepalign_cli.operations.barrier import Question, barrier_files
    from deepalign_cli.operations.settings import Method
    from deepalign_cli.plots import save_curves

    question = Question(
        job.inputs, tuple(map(Method, methods)), job.settings, job.subject, repair=bool(job.repair)
    )
    with out.progress("aligning", 1.0, then="measuring") as advance:
        report = barrier_files(question, advance)
    notes = tuple(note.removeprefix(f"{methods[0]}: ") for note in report.notes)  # there is but one method
    for note in notes:
        out.note(note)
    story = replace(story, curves=report.curves, notes=notes)
    report.check_finite()
    picture = scratch / "barrier.png"
    try:
        save_curves(picture, report.curves, names=report.ends)
    except MissingExtra as missing:
        out.note(f"the card has no picture: {missing.message} {missing.hint}")
        return story
    return replace(story, picture=picture)


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
