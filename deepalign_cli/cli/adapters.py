"""How `merge` takes LoRA adapters, and what it shows of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deepalign_cli.checkpoint.hub import is_reference, parse_reference
from deepalign_cli.cli.grouped import dashed
from deepalign_cli.cli.output import Output
from deepalign_cli.errors import UsageError
from deepalign_cli.progress import quantity

if TYPE_CHECKING:
    from deepalign_cli.operations.adapters import Adapter
    from deepalign_cli.operations.job import Job
    from deepalign_cli.operations.merge import Merging

_ALLOWED = ("force", "quiet", "json", "offline", "output", "dry_run", "key", "seed", "recipe", "save_recipe")


def default_folder(first: Path, output: str | None, word: str = "merged") -> Path:
    """Where an adapter is written: OUT, or the first one's name and a word, in this folder."""
    if output is not None:
        return Path(output)
    if is_reference(first):
        return Path(f"{parse_reference(first).repo.split('/')[1]}-{word}")
    home = first if first.is_dir() else first.parent
    return Path(f"{home.resolve().name}-{word}")


def check_idle(groups: Mapping[str, object]) -> None:
    """Refuse options that adapters have no use for, of groups of options or single ones by name.

    Raises:
        UsageError: there is one.
    """
    for name, group in groups.items():
        values = vars(group) if hasattr(group, "__dict__") else {name: group}
        for field, value in values.items():
            if field not in _ALLOWED and value not in (None, False):
                problem = f"{dashed(field)} has no effect on LoRA adapters, which are not aligned."
                raise UsageError(problem, "leave it out: adapters of one base are merged as they are.")


def merge_loras(
    out: Output, job: Job, adapters: tuple[Adapter, ...], merging: Merging, rank: int | None, *, dry_run: bool
) -> None:
    """Merge adapters and show what was done, or what would be."""
    from deepalign_cli.operations.merge_adapters import MergedAdapter, check_adapters, merge_adapters

    told: dict[str, object] = {"combine": merging.combiner}
    told |= {"weights": merging.weights} if merging.row.weighed else {}
    job = replace(job, reads=(*job.reads, *(file for one in adapters for file in one.checkpoint.files)))
    if dry_run:
        check_adapters(job)
        merged = MergedAdapter(adapters, merging, rank)
        tensors = [{"name": n, "dtype": d, "shape": s} for n, d, s in merged.layout]
        out.notes(merged.notes())
        told |= {"rank": merged.rank, "modules": len(merged.modules), "tensors": tensors}
        text = (
            f"would write {job.output}: {len(merged.modules)} modules of {len(adapters)} adapters, combined "
            f"by {merging.combiner}, at rank {merged.rank}\n"
            "nothing was read but headers, and nothing was written"
        )
        out.result({"dry_run": True, "output": job.output, **told}, text, job.output)
        return
    with out.progress("merging") as progress:
        report = merge_adapters(job, adapters, merging, rank, progress)
    out.notes(report.notes)
    module, share = report.worst
    lines = [
        f"wrote {report.output} ({quantity(report.bytes, 'B')}) in {report.seconds:.2f} s",
        f"{len(adapters)} adapters of {report.modules} modules by {merging.combiner}, at rank {report.rank}",
        f"relative error {report.relative_error:.3g}",
    ]
    payload = {
        "output": report.output, **told, "rank": report.rank, "relative_error": report.relative_error,
        "worst": {"module": module, "relative_error": share}, "modules": report.modules,
        "seconds": report.seconds, "files": report.files,
    }  # fmt: skip
    out.result(payload, "\n".join(lines), report.output)
