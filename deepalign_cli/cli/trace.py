"""`deepalign trace`: what may move in a network, what stays, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from deepalign_cli.cli.grouped import flag, option
from deepalign_cli.cli.options import OUTPUT, WriteOptions
from deepalign_cli.cli.output import TextTable
from deepalign_cli.cli.running_options import ModelOptions, RunningOptions
from deepalign_cli.errors import UsageError
from deepalign_cli.progress import counted

if TYPE_CHECKING:
    from deepalign_cli.operations.trace import TraceReport

_SHOWN = 3

Reference = Annotated[
    Path | None,
    typer.Argument(metavar="A", help="A checkpoint of the network, whose tensors' names the spec then has."),
]


@dataclass(frozen=True)
class TraceOptions:
    """What is traced besides the network, and where the spec goes."""

    output: Path | None = option(
        "Write the symmetry spec to this file, to edit and to pass to --spec.", OUTPUT, short="-o",
        metavar="SPEC.toml",
    )  # fmt: skip
    outputs: list[str] | None = option(
        "The outputs that count, by name, where the network returns several; repeat it for more.",
        metavar="NAME",
    )
    turns: bool = flag(
        "Also find what may turn: residual streams, and the dimensions of heads (what -m rotations uses)."
    )
    check: bool = flag("Also draw new random elements of each kind, and say what they change in float64.")


def trace(a: Reference = None, *, model: ModelOptions, how: TraceOptions, common: WriteOptions) -> None:
    """Ask a network what may move: groups of units, what stays in place, and why.

    The network is exported to single operations, and each says which axes it ties and which it holds. Then
    random elements of the result are tried on the network in float64, on several inputs of several shapes;
    a group that changes the outputs stays in place. Traces are kept in the user's cache folder.

    Example:
        deepalign trace --model net.py:make
        deepalign trace --model net.py:make --input-shape 3x32x32 -o spec.toml
        deepalign trace path/to/transformers-folder --turns
    """
    out = common.sink("trace")
    if a is None and model.model is None:
        raise UsageError("nothing says what to trace.", "deepalign trace --model net.py:make")
    from deepalign_cli.checkpoint import check_output
    from deepalign_cli.operations.trace import trace_source, write_spec

    running = RunningOptions(**vars(model))
    if how.output is not None:
        check_output(how.output, force=common.force, inputs=[*([a] if a else []), *running.files()])
    with out.progress("tracing") as progress:
        report = trace_source(
            running.subject(), a, tuple(how.outputs or ()), checked=how.check, turns=how.turns,
            progress=progress,
        )  # fmt: skip
    if how.output is not None:
        write_spec(report.spec, how.output, force=common.force)
    out.notes((*report.notes, *report.spec.stays))
    payload = _payload(report, how.output)
    out.result(payload, lambda console: _show(console, report, payload, how), how.output)


def _payload(report: TraceReport, output: Path | None) -> dict[str, Any]:
    from deepalign_cli.symmetry.axes import format_axes
    from deepalign_cli.symmetry.kinds import SCALE, SIGN
    from deepalign_cli.symmetry.sizes import solve_sizes
    from deepalign_cli.symmetry.spec import format_spec

    traced, spec = report.traced, report.spec
    sizes = solve_sizes(spec, report.shapes)
    allowed = {kind.name: set(spec.allowed(kind)) for kind in (SCALE, SIGN)}
    allowed["phase"] = {g for bias in spec.phases for g in spec.axes[bias][0].groups()}
    carried = [{g for axis in axes for g in axis.groups()} for axes in spec.axes.values()]
    groups = {
        g: {
            "size": sizes[g],
            "kinds": [spec.kinds[g].name]
            if g in spec.mixing
            else ["permutation", *(name for name, names in allowed.items() if g in names)],
            "tensors": sum(g in c for c in carried),
        }
        for g in spec.groups()
    }
    return {
        "source": report.says,
        "basis": str(spec.basis),
        "groups": groups,
        "axes": {name: format_axes(axes) for name, axes in spec.axes.items()},
        "tensors": len(report.shapes),
        "stays": {reason: [list(place) for place in places] for reason, places in traced.stays.items()},
        "unreached": list(traced.unreached),
        "no_rule": dict(traced.unknown),
        "residual": traced.residual,
        "runs": traced.runs,
        **({"checks": dict(report.checks)} if report.checks else {}),
        "seconds": report.seconds,
        "output": output,
        "spec": format_spec(spec),
    }


def _show(console: Console, report: TraceReport, payload: Mapping[str, Any], how: TraceOptions) -> None:
    traced, groups = report.traced, payload["groups"]
    units = sum(row["size"] for row in groups.values())
    console.print(
        f"{report.says}: {counted(len(groups), 'group')}, {counted(units, 'unit')}; "
        f"{len(payload['axes'])} of {len(report.shapes)} floating-point tensors move"
    )
    if traced.residual is not None:
        console.print(
            f"checked: random elements change the outputs by {traced.residual:.1e} at most (float64, "
            f"{traced.runs} inputs)"
        )
    if report.checks:
        rows = [[name, residual] for name, residual in report.checks.items()]
        console.print(TextTable(["random", "change of the outputs"], rows))
    if groups:
        rows = [[g, v["size"], ", ".join(v["kinds"]), v["tensors"]] for g, v in groups.items()]
        console.print(TextTable(["group", "units", "kinds", "tensors"], rows))
    for line in _tree(payload["axes"], report.shapes):
        console.print(line)
    if traced.stays:
        rows = [[reason, len(places), _some(places)] for reason, places in _by_reason(traced.stays)]
        console.print(TextTable(["what stays: why", "axes", "such as"], rows))
    if how.output is not None:
        console.print(f"spec: {how.output}")


def _tree(axes: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """The tensors as a tree by module, each with its axes; one that stays has its shape."""
    before: list[str] = []
    for name, shape in shapes.items():
        *modules, leaf = name.split(".")
        shared = next((i for i, (x, y) in enumerate(zip(before, modules, strict=False)) if x != y), None)
        shared = min(len(before), len(modules)) if shared is None else shared
        for depth in range(shared, len(modules)):
            yield f"{'  ' * depth}{modules[depth]}"
        text = axes.get(name) or f"{' '.join(map(str, shape)) or 'one number'} (stays)"
        yield f"{'  ' * len(modules)}{leaf}: {text}"
        before = modules


def _by_reason(
    stays: Mapping[str, Sequence[tuple[str, int]]],
) -> list[tuple[str, list[tuple[str, int]]]]:
    """The places by reason, operations of one kind in all modules together; the commonest first."""
    merged: dict[str, list[tuple[str, int]]] = {}
    for reason, places in stays.items():
        text, _, where = reason.partition(" [")
        operation = where.removesuffix("]").partition(" in ")[0]
        merged.setdefault(f"{text} ({operation})" if operation else text, []).extend(places)
    return sorted(merged.items(), key=lambda pair: -len(pair[1]))


def _some(places: Sequence[tuple[str, int]]) -> str:
    shown = ", ".join(f"{name} axis {axis}" for name, axis in places[:_SHOWN])
    return shown + (" ..." if len(places) > _SHOWN else "")
