"""`deepalign transport`: what training has changed in one network, added to another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from deepalign_cli.cli.adapters import default_folder
from deepalign_cli.cli.align import default_output, show
from deepalign_cli.cli.aligning import AligningOptions, check_data, make_settings
from deepalign_cli.cli.dry_run import show_transport
from deepalign_cli.cli.grouped import flag, option
from deepalign_cli.cli.options import OUTPUT, OutputType, ThreadOptions
from deepalign_cli.cli.running_options import RunningOptions
from deepalign_cli.cli.sharing import target_of, typed, without_folder, words
from deepalign_cli.cli.tables import Method
from deepalign_cli.errors import UsageError

_WHAT = "a file, a folder, or hf://ORG/REPO[@REVISION][/FILE]."
BaseA = Annotated[Path, typer.Argument(metavar="BASE_A", help=f"The network before it was tuned: {_WHAT}")]
TunedA = Annotated[Path, typer.Argument(metavar="TUNED_A", help="The network that was trained from BASE_A.")]
BaseB = Annotated[
    Path, typer.Argument(metavar="BASE_B", help="Another network of this architecture, trained separately.")
]


@dataclass(frozen=True)
class TransportOptions(ThreadOptions):
    """How much is added, and what is written."""

    scale: float = option(
        "What the task vector is multiplied by; 1 by default, below 0 to take away what was learned.",
        OUTPUT, default=1.0,
    )  # fmt: skip
    repair: str | None = option(
        "Re-estimate BatchNorm of the new network on training examples of this data (given as for --data, "
        "and instead of it), which should be of the task.", OUTPUT, metavar="SOURCE",
    )  # fmt: skip
    dtype: OutputType | None = option(
        "The type of the output's floating-point tensors: each is rounded to it once; BASE_B's by default.",
        OUTPUT,
    )  # fmt: skip
    dry_run: bool = flag("Say what would be done, from headers alone; write nothing.", OUTPUT)
    output: str | None = option(
        "The .safetensors file to write; or OUT/, a folder that also holds BASE_B's configuration and "
        "tokenizer and a model card. OUT is a folder if BASE_B is one.", OUTPUT, short="-o", metavar="OUT",
    )  # fmt: skip


def transport(
    base_a: BaseA, tuned_a: TunedA, base_b: BaseB, *, method: Method = None, aligning: AligningOptions,
    running: RunningOptions, common: TransportOptions,
) -> None:  # fmt: skip
    """Add what TUNED_A has learned since BASE_A to BASE_B.

    BASE_A is aligned onto BASE_B. The task vector, TUNED_A - BASE_A, is moved in the same way and added:
    BASE_B + scale (g TUNED_A - g BASE_A), with g what carries BASE_A onto BASE_B. The output has the names,
    shapes and types of BASE_B, and nothing is trained. Without -o it is written to BASE_B's name with
    '.tuned.safetensors', in this folder.

    TUNED_A may be the folder of a LoRA adapter of BASE_A: the output then is one of BASE_B, in a folder.

    How much it is worth depends on how well the bases align: try it on data of the task. With --data the
    card of a folder, -o OUT/, has the losses of all networks. A saved alignment is that of `deepalign align
    BASE_B BASE_A`.

    Example:
        deepalign transport a.pt a-tuned.pt b.pt -o b-tuned.safetensors
        deepalign transport a.pt a-tuned.pt b.pt -m activations --data mnist.npz --normalise standard
        deepalign transport a.pt a-tuned.pt b.pt --model net.py:make --repair task.npz --normalise standard
        deepalign transport vit-a/ vit-a-tuned/ vit-b/ -m rotations --scale 0.7 -o vit-b-tuned/
    """
    from deepalign_cli.operations.adapters import find_adapters

    out, adapters = common.sink("transport"), find_adapters((tuned_a,), aligning.key)
    settings = make_settings(
        [method] if method else None, aligning, force=common.force, partial=common.partial
    )
    default = default_output(base_b, "tuned")
    if adapters:
        target, is_folder = default_folder(tuned_a, common.output, "carried"), True
    else:
        target, is_folder = target_of(common.output, None, base_b, default)
    running = running if running.data else replace(running, data=common.repair)
    check_data(
        [settings.method], aligning, running, elsewhere=bool(common.repair) or (is_folder and not adapters)
    )
    from deepalign_cli.operations.job import Job
    from deepalign_cli.operations.transport import transport_files
    from deepalign_cli.operations.transported_folder import transport_folder

    reads = (tuned_a, *running.files(), *RunningOptions(data=common.repair).files())
    job = Job(
        (base_b, base_a), target, settings, tuple(aligning.alignment or ()), common.save_alignment,
        running.subject(), common.repair, reads, **common.writing(is_folder=is_folder and not adapters),
        dtype=common.dtype.code if common.dtype else None,
    )  # fmt: skip
    if adapters and common.dry_run:
        raise UsageError("--dry-run does not read LoRA adapters.", "leave it out.")
    if adapters and common.repair:
        raise UsageError("--repair does not run LoRA adapters.", "leave it out.")
    if adapters and (common.dtype or common.threads):
        problem = f"{'--dtype' if common.dtype else '--threads'} is not for LoRA adapters."
        raise UsageError(problem, "leave it out.")
    if adapters:
        from deepalign_cli.operations.transport_adapter import transport_adapter

        with out.progress("aligning") as progress:
            report = transport_adapter(job, adapters[0], common.scale, progress)
        show(out, report, {"scale": common.scale, "files": report.files})
        return
    if common.dry_run:
        from deepalign_cli.operations.dry_run import plan_transport

        show_transport(out, plan_transport(job, tuned_a, common.scale, is_folder=is_folder))
        return
    with out.progress("aligning") as progress:
        if is_folder:
            title, options = target.resolve().name, _options(method, aligning, running, common, target)
            report, norm = transport_folder(job, tuned_a, common.scale, title, options, progress)
        else:
            report, norm = transport_files(job, tuned_a, common.scale, progress)
    more: dict[str, object] = {"scale": common.scale, "task_vector": norm}
    show(out, report, more | ({"files": report.files} if is_folder else {}))


def _options(
    method: str | None, aligning: AligningOptions, running: RunningOptions, common: TransportOptions,
    target: Path,
) -> list[str]:  # fmt: skip
    """The options that make the network again."""
    size = common.max_shard_size
    own = {
        "--scale": common.scale, "--repair": common.repair and without_folder(common.repair),
        "--partial": common.partial, "--dtype": common.dtype and common.dtype.value,
        "--max-shard-size": size and str(size),
    }  # fmt: skip
    how = {"-m": method, **typed(aligning), **typed(running)}
    return words({**how, **own, "-o": f"{target.resolve().name}/"})
