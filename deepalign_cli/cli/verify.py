"""`deepalign verify`: are two checkpoints the same up to the order of their units?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from deepalign_cli.cli.grouped import option
from deepalign_cli.cli.options import CheckpointA, CheckpointB, ReadOptions, SpecOptions
from deepalign_cli.cli.resting import resting
from deepalign_cli.cli.running_options import ModelOptions, RunningOptions
from deepalign_cli.errors import UsageError

if TYPE_CHECKING:
    from deepalign_cli.operations.verify import Verdict

SPEC_BROKEN = 3


@dataclass(frozen=True)
class VerifyOptions:
    """How the two are compared, and the spec is checked."""

    tolerance: float | None = option("The residual up to which the two count as the same.", min=0.0)
    restarts: int | None = option("How many orders weight matching tries; 10 by default.", min=1)


def verify(
    a: CheckpointA, b: CheckpointB, *, model: ModelOptions, how: VerifyOptions, known: SpecOptions,
    common: ReadOptions,
) -> int:  # fmt: skip
    """Check whether A and B are the same up to the order of their units.

    Recovers the element that carries B onto A and prints the residual. Exits 0 if they are the same,
    1 if not. The answer holds as far as the spec does: it says what that rests on, and calls the two the
    same function only where the network was run. With --model the spec itself is checked too: a random
    element of the group must leave the outputs unchanged in float64; if it does not, the tensors to suspect
    are named and the exit code is 3. It is checked on examples of --data, else on random inputs.

    Example:
        deepalign verify b.pt b-aligned.safetensors
        deepalign verify a.pt b.pt --model net.py:make --input-shape 3x32x32
        deepalign verify a.pt b.pt --model net.py:make --data tokens.npz
    """
    out = common.sink("verify")
    if model.data and model.input_shape:
        raise UsageError("--data and --input-shape exclude each other.", "leave --input-shape out.")
    if not model.data and (model.normalise or model.side or model.grey):
        raise UsageError("--normalise, --side and --grey prepare --data.", "add --data mnist.npz")
    from deepalign_cli.operations.session import Session
    from deepalign_cli.operations.settings import Settings
    from deepalign_cli.operations.verify import verify_session

    options = {"restarts": how.restarts} if how.restarts else {}
    values = {name: value for name, value in vars(known).items() if value is not None}
    settings = Settings("weights", options, **values)
    running = RunningOptions(**vars(model)).subject()
    with out.progress("comparing") as progress:
        verdict = verify_session(
            Session([a, b], settings, running), tolerance=how.tolerance, progress=progress
        )  # fmt: skip
    out.notes(verdict.notes)
    out.result(_payload(verdict), lambda console: _show(console, verdict))
    if verdict.spec is not None and not verdict.spec.passed:
        return SPEC_BROKEN
    return 0 if verdict.same else 1


def _payload(verdict: Verdict) -> dict[str, object]:
    keys = ("same", "residual", "tolerance", "worst", "seconds", "groups")
    payload: dict[str, object] = {key: getattr(verdict, key) for key in keys}
    payload["worst"] = verdict.worst or None
    payload |= resting(verdict.rests_on)
    if verdict.spec is not None:
        check = verdict.spec
        payload["spec"] = {"passed": check.passed, "residual": check.residual, "suspects": check.broken}
    return payload


def _show(console: Console, verdict: Verdict) -> None:
    if verdict.same:
        moved = sum(row["moved"] for row in verdict.groups.values())
        console.print(f"{verdict.says}: {moved} units moved, residual {verdict.residual:.3g}")
    else:
        console.print(
            "not the same up to the spec: "
            f"residual {verdict.residual:.3g} in '{verdict.worst}' (tolerance {verdict.tolerance:.3g})"
        )
    if verdict.spec is None:
        return
    check = verdict.spec
    change = f"a random element changes the outputs by {check.residual:.1e} (relative, float64)"
    console.print(f"the spec {'holds' if check.passed else 'is wrong'}: {change}")
    for group, suspects in check.broken.items() if not check.passed else ():
        console.print(f"  group '{group}': suspect {'; '.join(suspects)}")
