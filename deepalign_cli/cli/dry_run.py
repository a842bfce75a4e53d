"""How `--dry-run` shows the plan of `merge` and `transport`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from deepalign_cli.cli.output import Output
from deepalign_cli.progress import counted, quantity

if TYPE_CHECKING:
    from deepalign_cli.operations.dry_run import MergePlan

_NOTHING = "nothing was read but headers, and nothing was written"


def show_plan(out: Output, plan: MergePlan) -> None:
    """Show what a merge would do."""
    _show(out, plan, _lines(plan))


def show_transport(out: Output, plan: MergePlan) -> None:
    """Show what a transport would do."""
    base, before, tuned = plan.inputs
    roles = ((base, "base B"), (before, "base A"), (tuned, "tuned A"))
    lines = [_heading(plan), *(f"  {name} ({quantity(size, 'B')}): {role}" for (name, size), role in roles)]
    lines += [_alignment(plan), f"add {plan.facts['scale']} x what tuned A has learned", _NOTHING]
    _show(out, plan, lines)


def _show(out: Output, plan: MergePlan, lines: Sequence[str]) -> None:
    out.notes(plan.notes)
    payload = {
        "dry_run": True, "output": plan.output, "method": plan.method, "groups": plan.groups, **plan.facts,
        "inputs": [{"name": name, "bytes": size} for name, size in plan.inputs],
        "bytes": plan.bytes, **({"files": plan.files} if plan.files else {}),
        "tensors": [asdict(tensor) for tensor in plan.tensors],
    }  # fmt: skip
    out.result(payload, "\n".join(lines), plan.output)


def _heading(plan: MergePlan) -> str:
    return (
        f"would write {plan.output} ({quantity(plan.bytes, 'B')}): "
        f"{len(plan.tensors)} tensors{_files(plan)}, "
        f"named {'' if 'dtype' in plan.facts else 'and typed '}as in {plan.inputs[0][0]}"
    )


def _lines(plan: MergePlan) -> list[str]:
    weights = plan.facts.get("weights")
    usual = tuple(weights) if isinstance(weights, list) else ()
    ruled = sum(tensor.weights not in (None, usual) for tensor in plan.tensors)
    lines = [
        _heading(plan),
        *_inputs(plan, usual),
        _alignment(plan),
        f"combine them by {_combiner(plan)}",
    ]
    if ruled:
        lines.append(f"{ruled} tensors have weights of their own; --json lists them")
    return [*lines, _NOTHING]


def _files(plan: MergePlan) -> str:
    return f" in {len(plan.files)} files and an index" if len(plan.files) > 1 else ""


def _inputs(plan: MergePlan, weights: tuple[float, ...]) -> list[str]:
    found = ["its weight is found by the combiner"] * (len(plan.inputs) - plan.has_base)
    base = ["the base"] if plan.has_base else []
    roles = [*base, *([f"weight {weight:.4g}" for weight in weights] or found)]
    return [
        f"  {name} ({quantity(size, 'B')}): {role}"
        for (name, size), role in zip(plan.inputs, roles, strict=True)
    ]


def _alignment(plan: MergePlan) -> str:
    if plan.groups is None:
        return "align nothing" if plan.method == "none" else f"align by {plan.method}"
    units = sum(plan.groups.values())
    may_move = f"{counted(units, 'unit')} in {counted(len(plan.groups), 'group')} may move"
    return f"align to {plan.inputs[0][0]} by {plan.method}: {may_move}"


def _combiner(plan: MergePlan) -> str:
    left_out = ("combine", "weights", "weights_for", "base", "dtype")
    options = [f"{k.rstrip('_')} {v}" for k, v in plan.facts.items() if k not in left_out]
    return f"{plan.facts['combine']}{': ' if options else ''}{', '.join(options)}"
