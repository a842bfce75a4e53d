"""Which groups may turn: residual streams, and the dimensions of every head.

The walk proves what may be permuted. That more may turn is proposed by where groups stand, once the gains of
norms are out of the way, and proved by the network: in float64 random rotations must not change what it
computes, and a group that fails is tried as the next narrower kind, or stays what it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from deepalign_cli.errors import listed
from deepalign_cli.symmetry.kinds import CENTRED, HALF_TURNS, NEIGHBOURS, ORTHOGONAL, ROTARY, Kind
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.tracing.check import Trial
from deepalign_cli.tracing.program import Program
from deepalign_cli.tracing.turn_proposals import is_stream, proposal

_SHOWN = 5
_NARROWER = {ROTARY: NEIGHBOURS, NEIGHBOURS: HALF_TURNS}


@dataclass(frozen=True)
class Turning:
    """The spec in which what may turn does, and the largest change of an output by random rotations."""

    spec: Spec
    residual: float


def turning(program: Program, spec: Spec, trial: Trial) -> Turning:
    """The spec in which the groups that may turn do; the others are as in `spec`."""
    barred: dict[str, Kind | None] = {}
    while True:
        proposed = _with_reasons(proposal(program, spec, trial.shapes, barred), barred)
        if not proposed.mixing:
            return Turning(proposed, 0.0)
        symmetry = Symmetry(proposed, trial.shapes)
        residual, failed = trial.of(symmetry)
        if not failed:
            return Turning(proposed, residual)
        for group in (proposed.mixing & failed.keys()) or proposed.mixing:
            barred[group] = _narrower(symmetry, group)


def _narrower(symmetry: Symmetry, group: str) -> Kind | None:
    """The next kind to try of a group that failed; None where it stays."""
    kind = symmetry.kinds[group]
    if kind is ORTHOGONAL and (is_stream(group) or group in symmetry.norms.streams.values()):
        return CENTRED
    return _NARROWER.get(kind)


def _with_reasons(spec: Spec, barred: Mapping[str, Kind | None]) -> Spec:
    """The spec that says which groups do not turn because the trial did not let them."""
    names = sorted(group for group, kind in barred.items() if kind is None)
    line = f"{listed(names, _SHOWN)} would change the outputs by turning" if names else ""
    return replace(spec, stays=(*spec.stays, line)) if line else spec
