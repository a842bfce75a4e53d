"""`deepalign canonicalize`: networks in the places that an autoencoder of weights gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deepalign_cli.aligners.methods import AUTOENCODER
from deepalign_cli.cli.align import default_output
from deepalign_cli.cli.grouped import flag, option
from deepalign_cli.cli.options import MERGING, OUTPUT, SpecOptions, WriteOptions
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.resting import resting
from deepalign_cli.cli.running_options import ModelOptions, RunningOptions
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.canonicalize import Canonical

TOO_FAR = 4  # as where a barrier is too high
_METHOD = "canonical"

Networks = Annotated[
    list[Path],
    typer.Argument(metavar="A [B ...]", help="Checkpoints of one architecture: files, or hf://ORG/REPO."),
]


@dataclass(frozen=True)
class CanonicalOptions(WriteOptions):
    """Which autoencoder, and what is written."""

    autoencoder: str | None = option(AUTOENCODER.help, MERGING, metavar=AUTOENCODER.metavar)
    decoded: bool = flag(
        "Write what the autoencoder writes: another network, which computes nearly the same.", MERGING
    )
    max_error: float | None = option(
        "Exit with 4, and write nothing, where the error of a reconstruction is larger.", MERGING, min=0.0
    )
    output: Path | None = option(
        "The .safetensors file to write; for several inputs the folder that the files are written to.",
        OUTPUT, short="-o", metavar="OUT",
    )  # fmt: skip


def canonicalize(
    inputs: Networks, *, known: SpecOptions, model: ModelOptions, common: CanonicalOptions
) -> int:  # fmt: skip
    """Carry networks to canonical places, each by itself.

    An autoencoder reads a network and writes one that is the same for all networks that differ by the order,
    signs or scales of their units. The network is carried onto that one, so it computes what it did, and
    networks that were canonicalized can be averaged and compared without being aligned to one another.
    Without -o the output is A's name with '.canonical.safetensors', in this folder.

    --decoded writes the autoencoder's network itself, unless the weights have other sizes than it was trained
    on; with --max-error, whatever they have. The error of the reconstruction is always shown: of the outputs,
    where the network can be run, else of the weights.

    Example:
        deepalign canonicalize a.safetensors -o a-canonical.safetensors
        deepalign canonicalize a.safetensors b.safetensors c.safetensors -o canonical/
        deepalign canonicalize a.pt --activation sin --decoded --max-error 0.1
    """
    out = common.sink("canonicalize")
    several = len(inputs) > 1
    names = [default_output(path, "canonical") for path in inputs]
    target = common.output if common.output is not None else Path() if several else names[0]
    if model.data and model.input_shape:
        raise UsageError("--data and --input-shape exclude each other.", "leave --input-shape out.")
    from deepalign_cli.operations.canonicalize import canonicalize_each
    from deepalign_cli.operations.job import Job
    from deepalign_cli.operations.settings import Settings

    values = {f.name: value for f in fields(SpecOptions) if (value := getattr(known, f.name)) is not None}
    options = {"autoencoder": common.autoencoder} if common.autoencoder else {}
    settings = Settings(_METHOD, options, force=common.force, **values)
    running = RunningOptions(**vars(model))
    job = Job(tuple(inputs), target, settings, running=running.subject(), reads=tuple(running.files()))
    outputs = [target / name for name in names] if several else [target]
    with out.progress("reading networks") as progress:
        reports, notes = canonicalize_each(
            job, outputs, decoded=common.decoded, limit=common.max_error, progress=progress
        )
    out.notes(notes)
    too_far = common.max_error is not None and max(r.reconstruction for r in reports) > common.max_error
    _show(out, reports, target, decoded=common.decoded, too_far=too_far)
    return TOO_FAR if too_far else 0


def _show(out: Output, reports: Sequence[Canonical], target: Path, *, decoded: bool, too_far: bool) -> None:
    lines = [_line(one, decoded=decoded, too_far=too_far) for one in reports]
    payload = {
        "output": None if too_far else target,
        "autoencoder": reports[0].autoencoder,
        "decoded": decoded,
        "networks": [
            {
                "output": None if too_far else one.output, "moved": one.alignment.moved,
                "distance": one.alignment.distance_after, "weights_error": one.apart, "error": one.error,
            }
            for one in reports
        ],
        **resting(reports[0].alignment.symmetry.spec),
    }  # fmt: skip
    out.result(payload, "\n".join(lines), *(() if too_far else (one.output for one in reports)))


def _line(one: Canonical, *, decoded: bool, too_far: bool) -> str:
    what = f"{one.alignment.moved} units moved" if not decoded else "another network"
    error = f"; outputs {one.error:.3g}" if one.error is not None else ""
    done = "did not write" if too_far else "wrote"
    of = f"reconstruction error of {one.autoencoder}"
    return f"{done} {one.output}: {what}; {of}: weights {one.apart:.3g}{error}"
