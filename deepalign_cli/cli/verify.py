"""`deepalign verify`: are two checkpoints the same function up to a symmetry?"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deepalign_cli.cli import options
from deepalign_cli.cli.aligning import SpecOptions, make_settings
from deepalign_cli.cli.output import Output
from deepalign_cli.cli.running_options import (
    DataSource,
    Grey,
    Model,
    ModelArguments,
    Normalise,
    RunningOptions,
    Side,
)
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.measure.spec_check import SpecCheck
    from deepalign_cli.operations.verify import Verdict

SPEC_BROKEN = 3
Restarts = Annotated[
    int | None,
    typer.Option(
        "--restarts", metavar="N", min=1, help="How many orders weight matching tries; 10 by default."
    ),
]


def verify(
    a: options.CheckpointA,
    b: options.CheckpointB,
    model: Model = None,
    model_arg: ModelArguments = None,
    input_shape: Annotated[
        str | None,
        typer.Option(
            "--input-shape",
            metavar="CxHxW",
            help="One example's shape for --model, where no data are given; found by trying otherwise.",
        ),
    ] = None,
    data: DataSource = None,
    normalise: Normalise = None,
    side: Side = None,
    grey: Grey = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance", metavar="X", min=0.0, help="The residual up to which the two count as the same."
        ),
    ] = None,
    restarts: Restarts = None,
    seed: options.Seed = None,
    spec: options.Spec = None,
    activation: options.Activation = None,
    heads: options.Heads = None,
    offline: options.Offline = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> int:
    """Ask whether A and B are the same function up to a symmetry.

    Recovers the element that carries B onto A and prints what remains. Exits 0 if they are the same,
    1 if not. With --model the spec itself is checked too: a random element of the group must leave the
    outputs unchanged in float64; if it does not, the tensors to suspect are named and the exit code is 3.
    It is checked on examples of --data, else on random inputs.

    Example:
        deepalign verify b.pt b-aligned.safetensors
        deepalign verify a.pt b.pt --model net.py:make --input-shape 3x32x32
        deepalign verify a.pt b.pt --model net.py:make --data tokens.npz
    """
    out = Output("verify", json=json, quiet=quiet)
    how = SpecOptions(seed=seed, spec=spec, activation=activation, heads=heads)
    settings = make_settings(None, how)
    settings = replace(settings, method="weights", options={"restarts": restarts} if restarts else {})
    running = RunningOptions(model, model_arg, data=data, normalise=normalise, side=side, grey=grey)
    if data and input_shape:
        raise UsageError("--data and --input-shape exclude each other.", "leave --input-shape out.")
    if not data and (normalise or side or grey):
        raise UsageError("--normalise, --side and --grey prepare --data.", "name the data: --data mnist.npz")
    from deepalign_cli.operations.verify import verify_files

    with out.stages("comparing") as progress:
        verdict = verify_files(
            a, b, settings, running=running.subject(), input_shape=input_shape, tolerance=tolerance,
            progress=progress,
        )  # fmt: skip
    for note in verdict.notes:
        out.note(note)
    out.result(_payload(verdict), lambda console: _show(console, verdict))
    if verdict.spec is not None and not verdict.spec.passed:
        return SPEC_BROKEN
    return 0 if verdict.same else 1


def _payload(verdict: Verdict) -> dict[str, object]:
    payload: dict[str, object] = {
        "same": verdict.same,
        "residual": verdict.residual,
        "tolerance": verdict.tolerance,
        "worst": verdict.worst or None,
        "seconds": verdict.seconds,
        "groups": verdict.groups,
    }
    if verdict.spec is not None:
        check = verdict.spec
        payload["spec"] = {"passed": check.passed, "residual": check.residual, "suspects": check.broken}
    return payload


def _show(console: Console, verdict: Verdict) -> None:
    moved = sum(row["moved"] for row in verdict.groups.values())
    if verdict.same:
        console.print(f"same function: {moved} units moved, residual {verdict.residual:.3g}")
    else:
        console.print(
            "not the same function up to this symmetry: "
            f"residual {verdict.residual:.3g} in '{verdict.worst}' (tolerance {verdict.tolerance:.3g})"
        )
    if verdict.spec is not None:
        _show_spec(console, verdict.spec)


def _show_spec(console: Console, check: SpecCheck) -> None:
    change = f"a random element changes the outputs by {check.residual:.1e} (relative, float64)"
    if check.passed:
        console.print(f"the spec holds: {change}")
        return
    console.print(f"the spec is wrong: {change}")
    for group, suspects in check.broken.items():
        console.print(f"  group '{group}': suspect {'; '.join(suspects)}")
