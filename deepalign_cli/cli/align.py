"""`deepalign align`: the units of one or more networks carried onto A's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.hub import is_reference, parse_reference
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.grouped import option
from deepalign_cli.cli.options import OUTPUT, Inputs, WeightsOptions
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.resting import resting
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.tables import Method
from deepalign_cli.errors import UsageError
from deepalign_cli.progress import counted, quantity

if TYPE_CHECKING:
    from deepalign_cli.aligners.alignment import Alignment
    from deepalign_cli.operations.job import Report


@dataclass(frozen=True)
class AlignOptions(WeightsOptions):
    """What is written."""

    output: str | None = option(
        "The .safetensors file to write; or OUT/, a folder that also holds B's configuration and tokenizer, "
        "as it does where B is a folder. For more than two inputs the folder that the files are written to.",
        OUTPUT, short="-o", metavar="OUT",
    )  # fmt: skip


def align(
    inputs: Inputs, *, method: Method = None, aligning: AligningOptions, running: RunningOptions,
    common: AlignOptions,
) -> None:  # fmt: skip
    """Move B's units onto A's.

    The output is B with its hidden units in A's order (and, with --activation, A's signs or scales):
    the same function wherever the spec holds, now close to A weight by weight, so that averaging works.
    What the spec takes for granted is printed; --model checks it. Without -o it is
    written to B's name with '.aligned.safetensors', in this folder.

    Several inputs are aligned to A one by one, each to a file with that name. -o is the folder.

    Example:
        deepalign align a.pt b.pt -o b-aligned.safetensors
        deepalign align a.pt b.pt c.pt d.pt -o aligned/
        deepalign align bert-a/ bert-b/ -o bert-b-aligned/
        deepalign align a.pt b.pt -m activations --data mnist.npz --normalise standard --activation relu
    """
    out = common.sink("align")
    if len(inputs) < 2:
        raise UsageError("align needs at least two checkpoints.", "deepalign align A B -o B-ALIGNED")
    settings = make_settings(
        [method] if method else None, aligning, force=common.force, partial=common.partial
    )
    check_data([settings.method], aligning, running)
    from deepalign_cli.operations.align import align_each, align_folder
    from deepalign_cli.operations.job import Job

    several = len(inputs) > 2
    names = [default_output(path, "aligned") for path in inputs[1:]]
    target = Path(common.output) if common.output is not None else Path() if several else names[0]
    is_file = target.suffix == ".safetensors" and not target.is_dir()
    if several and is_file and all(path.exists() or str(path).startswith("hf:") for path in inputs):
        raise UsageError(
            f"-o {target} is one file, and {len(names)} are written.", f"name a folder: -o {target.stem}/"
        )
    is_folder = not several and _is_folder(common.output, inputs[1])
    job = Job(
        tuple(inputs), target, settings, tuple(aligning.alignment or ()), common.save_alignment,
        running.subject(), reads=tuple(running.files()), **common.writing(is_folder=is_folder),
    )  # fmt: skip
    with out.progress("aligning") as progress:
        if is_folder:
            reports: tuple[Report, ...] = (align_folder(job, progress),)
        else:
            reports = align_each(job, [target / name for name in names] if several else [target], progress)
    if several:
        _show_each(out, target, reports)
    else:
        show(out, reports[0], {"files": reports[0].files} if is_folder else {})


def _is_folder(output: str | None, moving: Path) -> bool:
    """Whether OUT is a folder: it is written OUT/, or B is one and OUT has no suffix or is one."""
    if not output:
        return False
    bare = not Path(output).suffix[1:2].isalpha() or Path(output).is_dir()
    return output.endswith(("/", os.sep)) or (bare and not is_reference(moving) and moving.is_dir())


def default_output(source: Path, word: str) -> Path:
    """`b.pt`, and hf://org/b, as `b.aligned.safetensors` in the current folder."""
    if is_reference(source):
        return Path(f"{parse_reference(source).repo.split('/')[1]}.{word}.safetensors")
    name = source.resolve().name if source.name in ("", ".", "..") else source.name
    return Path(f"{Path(name).stem if source.is_file() else name}.{word}.safetensors")


def show(out: Output, report: Report, more: dict[str, object]) -> None:
    """Show what `align` and `merge` did for one output."""
    out.notes(report.notes)
    size = quantity(report.bytes, "B")
    lines = [
        f"wrote {report.output} ({size}) by {report.method} in {report.seconds:.2f} s",
        *(_distance(before, after) for before, after in report.distances),
        f"{_moved(report)} in {counted(len(report.groups), 'group')}",
    ]
    payload = _payload(report, report.alignments, more)
    out.result(payload, "\n".join(lines), report.output)


def _show_each(out: Output, folder: Path, reports: Sequence[Report]) -> None:
    """Show what `align` did for several outputs."""
    out.notes(note for report in reports for note in report.notes)
    paths, last = [report.output for report in reports], reports[-1]
    lines = [f"wrote {r.output}: {_distance(*r.distances[0])}, {_moved(r)}" for r in reports]
    lines.append(f"{len(reports)} networks by {last.method} in {last.seconds:.2f} s")
    alignments = [one for report in reports for one in report.alignments]
    payload = _payload(reports[0], alignments, {"outputs": paths})
    payload |= {"output": folder, "seconds": last.seconds}
    out.result(payload, "\n".join(lines), *paths)


def _payload(report: Report, alignments: Sequence[Alignment], more: dict[str, object]) -> dict[str, object]:
    """The JSON object; distances and what was kept are lists for several moving inputs."""
    details = [alignment.details for alignment in alignments]
    first = details[0]
    prediction = {key: first[key] for key in ("network", "refine") if key in first}
    for key in ("sketches", "kept", "why", "unread"):
        if key in first:
            prediction[key] = _one_or_all([one.get(key) for one in details])
    return {
        "output": report.output,
        "method": report.method,
        **more,
        "seconds": report.seconds,
        "distance_before": _one_or_all([one.distance_before for one in alignments]),
        "distance_after": _one_or_all([one.distance_after for one in alignments]),
        "groups": report.groups,
        **resting(alignments[0].symmetry.spec),
        **prediction,
    }


def _one_or_all(values: Sequence[object]) -> object:
    return values[0] if len(values) == 1 else list(values)


def _distance(before: float, after: float) -> str:
    change = f"{100 * (after / before - 1):+.1f} %" if before else "already equal"
    return f"distance {before:.4g} -> {after:.4g} ({change})"


def _moved(report: Report) -> str:
    return f"{report.alignments[0].moved} of {sum(row['size'] for row in report.groups.values())} units moved"
