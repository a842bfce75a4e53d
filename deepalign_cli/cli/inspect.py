"""`deepalign inspect`: tensors, groups, what is inferred and what is assumed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from deepalign_cli.cli.grouped import flag, option
from deepalign_cli.cli.options import CheckpointA, FamilyOptions, ReadOptions
from deepalign_cli.cli.output import TextTable
from deepalign_cli.cli.resting import resting
from deepalign_cli.cli.running_options import NetworkOptions, RunningOptions
from deepalign_cli.errors import SpecError, UsageError

if TYPE_CHECKING:
    from deepalign_cli.checkpoint import Checkpoint
    from deepalign_cli.symmetry.spec import Spec as SpecType


@dataclass(frozen=True)
class InspectOptions:
    """The spec to show, and how."""

    spec: bool = flag("Print the symmetry spec as TOML, to edit and to pass to --spec of other commands.")
    blank: bool = flag("With --spec: a skeleton in which nothing moves yet, for any architecture.")
    from_: Path | None = option("Show this spec instead of inferring one.", metavar="FILE.toml")


def inspect(
    a: CheckpointA, *, how: InspectOptions, network: NetworkOptions, family: FamilyOptions,
    common: ReadOptions,
) -> None:  # fmt: skip
    """Show a checkpoint's tensors, its groups of units, and what is assumed.

    The spec comes from --from, from the checkpoint's metadata, from the network (--model, or a folder with a
    config.json of transformers), or from names and shapes; without a network headers only are read.

    Example:
        deepalign inspect a.pt
        deepalign inspect a.pt --spec > a.toml
        deepalign inspect a.pt --model net.py:make
    """
    out = common.sink("inspect")
    if how.blank and not how.spec:
        raise UsageError("--blank goes with --spec.", "deepalign inspect A --spec --blank > a.toml")
    from deepalign_cli.operations.inputs import open_network
    from deepalign_cli.operations.session import Session
    from deepalign_cli.operations.settings import Settings
    from deepalign_cli.symmetry.resolve import blank_spec, shapes_of
    from deepalign_cli.symmetry.sizes import solve_sizes
    from deepalign_cli.symmetry.spec import Spec, format_spec, plain
    from deepalign_cli.symmetry.stored_spec import refuse_assumptions

    checkpoint, activation = open_network(a, family.key), family.activation
    try:
        known = {k: value for k, value in vars(family).items() if value is not None and k != "strict"}
        running = RunningOptions(**vars(network)).subject()
        session = Session([checkpoint], Settings(spec=how.from_, **known), running)
        spec = blank_spec(checkpoint) if how.blank else session.symmetry.spec
    except SpecError:
        if not how.spec and how.from_ is None:
            bare = _payload(checkpoint, Spec({}, source="no spec was found"), {})
            out.result(bare, lambda console: _show(console, checkpoint, bare))
        raise
    if family.strict:
        refuse_assumptions(spec)
    sizes = solve_sizes(spec, shapes_of(checkpoint))
    if how.spec and not common.json:
        whole = activation or family.kinds or spec.basis.knows_marks  # of which the marks are facts
        sys.stdout.write(format_spec(spec if whole else plain(spec)))
        return
    out.notes((*checkpoint.notes, *spec.notes))
    payload = _payload(checkpoint, spec, sizes) | ({"spec": format_spec(spec)} if how.spec else {})
    out.result(payload, lambda console: _show(console, checkpoint, payload))


def _payload(checkpoint: Checkpoint, spec: SpecType, sizes: dict[str, int]) -> dict[str, Any]:
    from deepalign_cli.symmetry.axes import format_axes
    from deepalign_cli.symmetry.kinds import PERMUTATION
    from deepalign_cli.symmetry.spec import plain

    shown = plain(spec)
    tensors = {
        name: {
            "dtype": info.dtype,
            "shape": list(info.shape),
            "axes": format_axes(shown.axes[name]) if name in shown.axes else None,
            **({"tied_to": info.tied_to} if info.tied_to else {}),
        }
        for name, info in checkpoint.infos.items()
    }
    carried = [{g for axis in axes for g in axis.groups()} for axes in spec.axes.values()]
    groups = {
        g: {"size": n, "kind": spec.kinds.get(g, PERMUTATION).name, "tensors": sum(g in c for c in carried)}
        for g, n in sizes.items()
    }
    return {
        "source": spec.source,
        "prefix": checkpoint.prefix,
        **resting(spec),
        "doubts": list(spec.assumptions),
        "groups": groups,
        "tensors": tensors,
    }


def _show(console: Console, checkpoint: Checkpoint, payload: dict[str, Any]) -> None:
    tensors, groups = payload["tensors"], payload["groups"]
    parameters = sum(info.numel for info in checkpoint.infos.values() if info.is_float)
    where = checkpoint.origin or checkpoint.path
    console.print(f"{where}: {payload['source']}; {len(tensors)} tensors, {parameters:,} parameters")
    if checkpoint.prefix:
        console.print(f"names are shown without the prefix '{checkpoint.prefix}'")
    if any(info.stored_name != f"{checkpoint.prefix}{n}" for n, info in checkpoint.infos.items()):
        console.print("names are shown without '_orig_mod.', which a compiled submodule puts into them")
    rows = [
        [n, t["dtype"], "x".join(map(str, t["shape"])) or "scalar", t["axes"]] for n, t in tensors.items()
    ]
    console.print(TextTable(["tensor", "type", "shape", "axes"], rows))
    if not groups:
        console.print("no group of units can move")
        return
    rows = [[g, v["size"], v["kind"], v["tensors"]] for g, v in groups.items()]
    console.print(TextTable(["group", "units", "kind", "tensors"], rows))
