"""`deepalign demo`: the main job on shipped checkpoints, nothing to prepare."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from deepalign_cli.cli import options
from deepalign_cli.cli.output import Output, table

if TYPE_CHECKING:
    from deepalign_cli.operations.demo import DemoResult


def demo(
    output: options.OutputPath = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Merge two shipped MNIST classifiers and show what alignment is worth.

    Two networks (784-128-128-128-10, ReLU) were trained apart. Their plain average is ruined; aligned
    first, the average works. The merged network is kept only with -o.

    Example:
        deepalign demo
        deepalign demo --json
    """
    out = Output("demo", json=json, quiet=quiet)
    from deepalign_cli.operations.demo import run_demo

    with out.progress("aligning and merging"):
        result = run_demo(output, force=force)
    scores = {"a": result.a, "b": result.b, "naive": result.naive, "merged": result.merged}
    payload = {
        "accuracy": scores,
        "images": result.images,
        "output": output,
        "method": result.report.method,
        "seconds": result.report.seconds,
        "distance_before": result.report.distances[0][0],
        "distance_after": result.report.distances[0][1],
        "groups": result.report.groups,
    }
    out.result(payload, lambda console: _show(console, result), output)


def _show(console: Console, result: DemoResult) -> None:
    rows = [
        ["A, trained with seed 0", _percent(result.a)],
        ["B, trained with seed 1", _percent(result.b)],
        ["average of A and B as they are", _percent(result.naive)],
        ["average of A and aligned B", _percent(result.merged)],
    ]
    console.print(table(["network", "accuracy"], rows))
    (before, after), groups = result.report.distances[0], result.report.groups
    moved = sum(row["moved"] for row in groups.values())
    console.print(
        f"{result.images} held-out digits; "
        f"aligned by {result.report.method} in {result.report.seconds:.2f} s: "
        f"{moved} units moved, distance {before:.1f} -> {after:.1f}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
