"""`deepalign align`: the units of one or more networks carried onto A's; each stays the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepalign_cli.checkpoint.hub import is_reference, parse_reference
from deepalign_cli.cli import options
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.grouped import grouped
from deepalign_cli.cli.output import Output, quantity
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import Method
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.job import Report

_ALIGNING, _RUNNING = AligningOptions(), RunningOptions()

Target = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="OUT", rich_help_panel="Output",
        help="The .safetensors file to write; for more than two inputs the folder, made if it is missing.",
    ),
]  # fmt: skip


@grouped
def align(
    inputs: options.Inputs,
    output: Target = None,
    method: Method = None,
    aligning: AligningOptions = _ALIGNING,
    alignment: options.Alignments = None,
    save_alignment: options.SaveAlignment = None,
    running: RunningOptions = _RUNNING,
    offline: options.Offline = False,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Move B's units onto A's.

    The output is B with its hidden units in A's order (and, with --activation, A's signs or scales):
    exactly the same function, now close to A weight by weight, so that averaging works. Without -o it is
    written to B's name with '.aligned.safetensors', in this folder.

    Several inputs are aligned to A one by one, each to a file of its own under that name. -o is the folder.

    Example:
        deepalign align a.pt b.pt -o b-aligned.safetensors
        deepalign align a.pt b.pt c.pt d.pt -o aligned/
        deepalign align a.pt b.pt -m activations --data mnist.npz --normalise standard --activation relu
    """
    out = Output("align", json=json, quiet=quiet)
    if len(inputs) < 2:
        raise UsageError("align needs at least two checkpoints.", "deepalign align A B -o B-ALIGNED")
    settings = make_settings([method] if method else None, aligning, alignment, force=force)
    check_data([] if alignment else [settings.method], aligning, running)
    from deepalign_cli.operations.align import align_each, align_files
    from deepalign_cli.operations.job import Job

    several = len(inputs) > 2
    names = [default_output(path, "aligned") for path in inputs[1:]]
    target = output or (Path() if several else names[0])
    job = Job(
        tuple(inputs), target, settings, tuple(alignment or ()), save_alignment, running.subject(),
        reads=tuple(running.files()),
    )  # fmt: skip
    with out.stages("aligning") as progress:
        if several:
            reports = align_each(job, [target / name for name in names], progress)
        else:
            reports = (align_files(job, progress),)
    if several:
        _show_each(out, target, reports)
    else:
        show(out, reports[0], {})


def default_output(source: Path, word: str) -> Path:
    """`b.pt`, and hf://org/b, as `b.aligned.safetensors` in the current folder."""
    if is_reference(source):
        return Path(f"{parse_reference(source).repo.split('/')[1]}.{word}.safetensors")
    name = source.resolve().name if source.name in ("", ".", "..") else source.name
    return Path(f"{Path(name).stem if source.is_file() else name}.{word}.safetensors")


def show(out: Output, report: Report, more: dict[str, object]) -> None:
    """Show what `align` and `merge` did for one output."""
    for note in report.notes:
        out.note(note)
    payload = _payload(report, report.distances, more, report.details)
    lines = [
        f"wrote {report.output} ({quantity(report.bytes, 'B')}) by {report.method} in {report.seconds:.2f} s"
    ]
    lines += [_distance(before, after) for before, after in report.distances]
    lines.append(f"{_moved(report)} in {len(report.groups)} groups")
    out.result(payload, lambda console: console.print("\n".join(lines)), report.output)


def _show_each(out: Output, folder: Path, reports: Sequence[Report]) -> None:
    """Show what `align` did for several outputs."""
    for note in dict.fromkeys(note for report in reports for note in report.notes):
        out.note(note)
    paths, last = [report.output for report in reports], reports[-1]
    distances = [report.distances[0] for report in reports]
    details = [one for report in reports for one in report.details]
    payload = _payload(reports[0], distances, {"outputs": paths}, details)
    payload |= {"output": folder, "seconds": last.seconds}
    lines = [f"wrote {r.output}: {_distance(*r.distances[0])}, {_moved(r)}" for r in reports]
    lines.append(f"{len(reports)} networks by {last.method} in {last.seconds:.2f} s")
    out.result(payload, lambda console: console.print("\n".join(lines)), "\n".join(map(str, paths)))


def _payload(
    report: Report,
    distances: Sequence[tuple[float, float]],
    more: dict[str, object],
    details: Sequence[Mapping[str, object]],
) -> dict[str, object]:
    """The JSON object; distances and what was kept are lists for several moving inputs."""
    before, after = zip(*distances, strict=True)
    return {
        "output": report.output,
        "method": report.method,
        **more,
        "seconds": report.seconds,
        "distance_before": _one_or_all(before),
        "distance_after": _one_or_all(after),
        "groups": report.groups,
        **_prediction(details),
    }


def _prediction(details: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Whose predictions they are, what was kept of each and why; which groups no layer was seen to read."""
    told = details[0] if details else {}
    common = {key: told[key] for key in ("network", "sketches", "refine") if key in told}
    keys = [key for key in ("kept", "why", "unread") if key in told]
    return common | {key: _one_or_all([one.get(key) for one in details]) for key in keys}


def _one_or_all(values: Sequence[object]) -> object:
    return values[0] if len(values) == 1 else list(values)


def _distance(before: float, after: float) -> str:
    change = f"{100 * (after / before - 1):+.1f} %" if before else "already equal"
    return f"distance {before:.4g} -> {after:.4g} ({change})"


def _moved(report: Report) -> str:
    moved = sum(row["moved"] for row in report.groups.values())
    return f"{moved} of {sum(row['size'] for row in report.groups.values())} units moved"
