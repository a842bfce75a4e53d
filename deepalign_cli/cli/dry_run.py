"""How `merge --dry-run` shows its plan."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from deepalign_cli.cli.output import Output
from deepalign_cli.progress import quantity

if TYPE_CHECKING:
    from deepalign_cli.operations.dry_run import MergePlan


def show_plan(out: Output, plan: MergePlan) -> None:
    """Show what a merge would do."""
    out.notes(plan.notes)
    payload = {
        "dry_run": True, "output": plan.output, "method": plan.method, "groups": plan.groups, **plan.facts,
        "inputs": [{"name": name, "bytes": size} for name, size in plan.inputs],
        "bytes": plan.bytes, "tensors": [asdict(tensor) for tensor in plan.tensors],
    }  # fmt: skip
    out.result(payload, "\n".join(_lines(plan)), plan.output)


def _lines(plan: MergePlan) -> list[str]:
    weights = plan.facts.get("weights")
    usual = tuple(weights) if isinstance(weights, list) else ()
    ruled = sum(tensor.weights not in (None, usual) for tensor in plan.tensors)
    lines = [
        f"would write {plan.output} ({quantity(plan.bytes, 'B')}): {len(plan.tensors)} tensors, "
        f"named and typed as in {plan.inputs[0][0]}",
        *_inputs(plan, usual),
        _alignment(plan),
        f"combine them by {_combiner(plan)}",
    ]
    if ruled:
        lines.append(f"{ruled} tensors have weights of their own; --json lists them")
    return [*lines, "nothing was read but headers, and nothing was written"]


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
    may_move = f"{units:,} units in {len(plan.groups)} groups may move"
    return f"align to {plan.inputs[0][0]} by {plan.method}: {may_move}"


def _combiner(plan: MergePlan) -> str:
    left_out = ("combine", "weights", "weights_for", "base")
    options = [f"{k.rstrip('_')} {v}" for k, v in plan.facts.items() if k not in left_out]
    return f"{plan.facts['combine']}{': ' if options else ''}{', '.join(options)}"
