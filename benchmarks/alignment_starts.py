"""What a refiner gains by starting from the prediction: fewer steps, and where it ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from alignment_methods import Context, predicted, problem_of
from alignment_tables import mean
from sinkhorn_rebasin import Rebasin

from deepalign_cli.aligners.gains import Gains, Step
from deepalign_cli.aligners.weights import descend
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.symmetry.element import Element

_LOOK_EVERY = 5  # iterations of Sinkhorn re-basin
_SEED = 0

Row = dict[str, Any]


class CountedGains(Gains):
    """Gains that count how many assignments were solved."""

    visits = 0

    def best_step(self, group: str, g: Element) -> Step:
        self.visits += 1
        return super().best_step(group, g)


def report_starts(
    network: DeepAlign, families: Iterable[tuple[str, Sequence[Context]]], settings: Rebasin, pairs: int
) -> list[Row]:
    """Print a line a family and return a row a pair; Sinkhorn re-basin gets the first `pairs` of each."""
    print("weight matching from the identity and from the prediction; Sinkhorn re-basin likewise")
    print(
        f"{'':26} {'visits':>13} {'steps':>13} {'objective':>15} "
        f"{'iterations':>13} {'reached':>8} {'loss at 1/2':>15}"
    )
    rows: list[Row] = []
    for name, contexts in families:
        own = []
        for number, context in enumerate(contexts):
            start = predicted(network, context)
            row: Row = {"family": name, "pair": number, **matching_row(context, start)}
            own.append(row | (rebasin_row(context, start, settings) if number < pairs else {}))
        print(f"{name:26} {_line(own)}", flush=True)
        rows += own
    return rows


def matching_row(context: Context, start: Element) -> Row:
    """One descent from each start, in the same order: assignments solved, accepted steps, objective."""
    row: Row = {}
    order = list(context.symmetry.sizes)
    for name, element in (("cold", context.symmetry.identity()), ("warm", start)):
        problem = CountedGains(context.symmetry, context.a, context.b)
        _, objective = descend(problem, element, context.rng, order)
        row[f"{name}_visits"], row[f"{name}_steps"] = problem.visits, len(objective) - 1
        row[f"{name}_objective"] = objective[-1] / problem.scale
    return row


def rebasin_row(context: Context, start: Element, settings: Rebasin) -> Row:
    """After how many iterations the start from the prediction is as good as the cold one at its end.

    Judged by the training loss at the rounded midpoint; None where it is not reached.
    """
    problem = problem_of(context)
    *_, last = problem.steps(settings, torch.Generator().manual_seed(_SEED))
    final, reached, loss = problem.midpoint_loss(last), None, float("nan")
    steps = problem.steps(settings, torch.Generator().manual_seed(_SEED), start)
    for iteration, logits in enumerate(steps):
        if iteration % _LOOK_EVERY == 0 or iteration == settings.iterations:
            loss = problem.midpoint_loss(logits)
            if loss <= final:
                reached = iteration
                break
    return {
        "iterations": settings.iterations,
        "warm_iterations": reached,
        "cold_loss": final,
        "warm_loss": loss,
    }


def _line(rows: Sequence[Row]) -> str:
    cells = []
    for key, width, digits in (("visits", 13, 1), ("steps", 13, 1), ("objective", 15, 4)):
        ends = [f"{mean(r[f'{start}_{key}'] for r in rows):.{digits}f}" for start in ("cold", "warm")]
        cells.append(f"{' > '.join(ends):>{width}}")
    tried = [r for r in rows if "iterations" in r]
    if tried:
        reached = [r["warm_iterations"] for r in tried if r["warm_iterations"] is not None]
        warm = f"{mean(reached):.1f}" if reached else "-"
        cells.append(f"{tried[0]['iterations']} > {warm}".rjust(13))
        cells.append(f"{len(reached)}/{len(tried)}".rjust(8))
        losses = [f"{mean(r[key] for r in tried):.4f}" for key in ("cold_loss", "warm_loss")]
        cells.append(" > ".join(losses).rjust(15))
    return " ".join(cells)
