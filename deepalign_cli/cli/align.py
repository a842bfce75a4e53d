"""`deepalign align`: B's units carried onto A's; B stays the same function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.cli import options
from deepalign_cli.cli.output import Output, quantity
from deepalign_cli.symmetry.spec import Activation as ActivationName

if TYPE_CHECKING:
    from deepalign_cli.operations.combine import Report
    from deepalign_cli.operations.settings import Settings


def align(
    a: options.CheckpointA,
    b: options.CheckpointB,
    output: options.OutputPath = None,
    method: options.Method = options.MethodName.WEIGHTS,
    restarts: options.Restarts = None,
    seed: options.Seed = 0,
    spec: options.Spec = None,
    activation: options.Activation = None,
    heads: options.Heads = None,
    alignment: options.AlignmentFile = None,
    save_alignment: options.SaveAlignment = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Move B's units onto A's.

    The output is B with its hidden units in A's order (and, with --activation, A's signs or scales):
    exactly the same function, now close to A weight by weight, so that averaging works. Without -o it is
    written to B's name with '.aligned.safetensors', in this folder.

    Example:
        deepalign align a.pt b.pt -o b-aligned.safetensors
    """
    out = Output("align", json=json, quiet=quiet)
    settings = make_settings(method, restarts, seed, spec, activation, heads, force)
    from deepalign_cli.operations.combine import Job, align_files

    target = output or default_output(b, "aligned")
    job = Job((a, b), target, settings, (alignment,) if alignment else (), save_alignment)
    check_alignment_options(job.alignments, spec)
    with out.progress(f"aligning {b.name}", total_bytes(b), "B") as advance:
        report = align_files(job, advance)
    show(out, report, {})


def make_settings(
    method: options.MethodName,
    restarts: int | None,
    seed: int,
    spec: Path | None,
    activation: ActivationName | None,
    heads: int | None,
    force: bool,
) -> Settings:
    """The settings that the shared options make."""
    from deepalign_cli.operations.settings import Method, Settings

    return Settings(Method(method), spec, activation, heads, restarts, seed, force)


def check_alignment_options(alignments: tuple[Path, ...], spec: Path | None) -> None:
    """A saved alignment carries its own spec."""
    from deepalign_cli.errors import UsageError

    if alignments and spec is not None:
        raise UsageError(
            "--alignment and --spec exclude each other.", "a saved alignment holds the spec it was made with."
        )


def default_output(source: Path, word: str) -> Path:
    """`b.pt` as `b.aligned.safetensors` in the current folder."""
    name = source.resolve().name if source.name in ("", ".", "..") else source.name
    return Path(f"{Path(name).stem if source.is_file() else name}.{word}.safetensors")


def total_bytes(source: Path) -> float | None:
    """How much there will be to write, roughly; None where that is not known yet."""
    return float(source.stat().st_size) if source.is_file() else None


def show(out: Output, report: Report, more: dict[str, object]) -> None:
    """Show what `align` and `merge` did."""
    for note in report.notes:
        out.note(note)
    before, after = zip(*report.distances, strict=True)
    several = len(report.distances) > 1
    payload = {
        "output": report.output,
        "method": report.method,
        **more,
        "seconds": report.seconds,
        "distance_before": list(before) if several else before[0],
        "distance_after": list(after) if several else after[0],
        "groups": report.groups,
    }
    moved = sum(row["moved"] for row in report.groups.values())
    units = sum(row["size"] for row in report.groups.values())
    lines = [
        f"wrote {report.output} ({quantity(report.bytes, 'B')}) by {report.method} in {report.seconds:.2f} s"
    ]
    lines += [f"distance {x:.4g} -> {y:.4g} ({_change(x, y)})" for x, y in report.distances]
    lines.append(f"{moved} of {units} units moved in {len(report.groups)} groups")
    out.result(payload, lambda console: console.print("\n".join(lines)), report.output)


def _change(before: float, after: float) -> str:
    return f"{100 * (after / before - 1):+.1f} %" if before else "already equal"
