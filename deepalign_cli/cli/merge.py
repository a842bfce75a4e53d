"""`deepalign merge`: align all inputs to the first and combine them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepalign_cli.cli import options
from deepalign_cli.cli.align import default_output, show
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.grouped import grouped
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.sharing import SharingOptions, target_of, typed, without_folder, words
from deepalign_cli.cli.tables import HOW_TO_MERGE, Combine, Method, options_of
from deepalign_cli.combiners.table import COMBINERS, DEFAULT, Combiner
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.job import Job, Report
    from deepalign_cli.operations.merge import Merging


@dataclass(frozen=True)
class CombineOptions:
    """How aligned networks become one, whatever the combiner."""

    alpha: Annotated[
        float | None,
        typer.Option(
            "--alpha", metavar="X", min=0.0, max=1.0, rich_help_panel=HOW_TO_MERGE,
            help="The share of B, from 0 (A) to 1 (aligned B); 0.5 by default. For two inputs.",
        ),
    ] = None  # fmt: skip
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="W1,W2,...", rich_help_panel=HOW_TO_MERGE,
            help="The share of each input, divided by their sum; equal by default.",
        ),
    ] = None  # fmt: skip
    base: Annotated[
        Path | None,
        typer.Option(
            "--base", metavar="BASE", rich_help_panel=HOW_TO_MERGE,
            help="The checkpoint that the inputs were trained from, where a combiner needs it; all are "
            "aligned to it.",
        ),
    ] = None  # fmt: skip
    combine: Combine = None
    path: Annotated[str | None, typer.Option("--path", hidden=True, help="The old name of --combine.")] = None


if TYPE_CHECKING:

    class MergingOptions(CombineOptions):
        """The same, and the options of all combiners."""

else:
    MergingOptions = options_of(
        "MergingOptions", COMBINERS.values(), "--combine", HOW_TO_MERGE, CombineOptions
    )

_MERGING, _ALIGNING, _RUNNING, _SHARING = (
    MergingOptions(), AligningOptions(), RunningOptions(), SharingOptions(),
)  # fmt: skip

Repair = Annotated[
    str | None,
    typer.Option(
        "--repair", metavar="SOURCE", rich_help_panel=HOW_TO_MERGE,
        help="Repair the merged network on training examples of this data (as --data takes it, and in its "
        "place): BatchNorm is re-estimated; other layers get the statistics between their parents' (REPAIR).",
    ),
]  # fmt: skip
Target = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="OUT", rich_help_panel="Output",
        help="The .safetensors file to write; or OUT/, a folder with A's configuration and tokenizer and a "
        "model card too. OUT is a folder where A is one.",
    ),
]  # fmt: skip


@grouped
def merge(
    inputs: options.Inputs,
    output: Target = None,
    merging: MergingOptions = _MERGING,
    repair: Repair = None,
    method: Method = None,
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
    sources = [*([merging.base] if merging.base else []), *inputs]
    if len(sources) < 2:
        raise UsageError("merge needs at least two checkpoints.", "deepalign merge A B --alpha 0.5")
    made = _merging(inputs, merging)
    settings = make_settings([method] if method else None, aligning, alignment, force=force)
    running = running if running.data else replace(running, data=repair)
    sharing.check()
    target, is_folder = target_of(output, sharing.push, sources[0], default_output(inputs[0], "merged"))
    check_data(
        [] if alignment else [settings.method], aligning, running, elsewhere=is_folder or repair is not None
    )
    from deepalign_cli.operations.job import Job

    reads = running.files() + (replace(running, model=None, loss=None, data=repair).files() if repair else [])
    job = Job(
        tuple(sources), target, settings, tuple(alignment or ()), save_alignment, running.subject(), repair,
        tuple(reads),
    )  # fmt: skip
    named = sharing.push.split("/")[1] if sharing.push else target.resolve().name
    given = {
        **{name: value for name, value in typed(merging).items() if name not in ("--base", "--path")},
        "--combine": merging.combine or merging.path, "--repair": repair and without_folder(repair),
        "-m": method, **typed(aligning), "--alignment": alignment, **typed(running), "-o": f"{named}/",
    }  # fmt: skip
    report, files = _merged(out, job, made, (named, words(given)), is_folder=is_folder)
    shares = made.row.shares(made.weights)
    plain = merging.weights is None and len(made.weights) == 2
    more: dict[str, object] = {"alpha": shares[1]} if plain else {"weights": shares}
    more |= {"combine": made.combiner}
    more |= {"files": files} if is_folder else {}
    more |= {"pushed": sharing.upload(out, target, files)} if sharing.push else {}
    show(out, report, more)


def _merged(
    out: Output, job: Job, merging: Merging, story: tuple[str, list[str]], *, is_folder: bool
) -> tuple[Report, tuple[str, ...]]:
    """Merge into a file, or into a folder whose files are named too."""
    from deepalign_cli.operations.merge import merge_files
    from deepalign_cli.operations.merged_folder import Story, merge_folder

    with out.stages("aligning") as progress:
        if not is_folder:
            return merge_files(job, merging, progress), ()
        folder = merge_folder(job, Story(*story), merging, progress)
        return folder.report, folder.files


def _merging(inputs: Sequence[Path], given: MergingOptions) -> Merging:
    """The combiner, its options and the weights.

    Raises:
        UsageError: they do not fit one another or the inputs.
    """
    from deepalign_cli.operations.merge import Merging

    row = COMBINERS.find(given.combine or given.path or DEFAULT)
    common = set(CombineOptions.__dataclass_fields__)
    own = {k: v for k, v in vars(given).items() if k not in common and v is not None}
    _check_used(row, own, given)
    merging = Merging(tuple(_weights(inputs, given)), row.name, own)
    merging.check(len(inputs) + row.base)
    return merging


def _check_used(row: Combiner, own: dict[str, object], given: MergingOptions) -> None:
    """See that every option has an effect. Raises UsageError where one has none."""
    if given.path is not None and given.combine is not None:
        raise UsageError("--path is the old name of --combine.", "leave it out.")
    if row.base and given.base is None:
        raise UsageError(
            f"--combine {row.name} needs the base that the inputs were trained from.",
            f"deepalign merge B C --base A --combine {row.name}",
        )
    if given.base is not None and not row.base:
        needing = " or ".join(r.name for r in COMBINERS.values() if r.base) or "another combiner"
        raise UsageError(f"--combine {row.name} makes no use of --base.", f"give --combine {needing}.")
    for name in own:
        if not any(parameter.name == name for parameter in row.parameters):
            users = [r.name for r in COMBINERS.values() if any(p.name == name for p in r.parameters)]
            option = next(p.option for r in COMBINERS.values() for p in r.parameters if p.name == name)
            raise UsageError(
                f"--combine {row.name} makes no use of {option}.",
                f"leave it out, or give --combine {' or '.join(users)}.",
            )


def _weights(inputs: Sequence[Path], given: MergingOptions) -> list[float]:
    """A weight for each input."""
    is_pair = len(inputs) == 2 and given.base is None
    if given.alpha is not None and (given.weights is not None or not is_pair):
        raise UsageError(
            "--alpha is for two inputs, without --weights.", "give every input its share: --weights 2,1,1"
        )
    if given.weights is None:
        other = 0.5 if given.alpha is None else given.alpha
        return [1 - other, other] if is_pair else [1 / len(inputs)] * len(inputs)
    try:
        return [float(part) for part in given.weights.split(",")]
    except ValueError:
        raise UsageError(f"'{given.weights}' is not a list of numbers.", "write --weights 2,1,1") from None
