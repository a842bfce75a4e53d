"""`verify`: are two checkpoints the same up to the spec, and does the spec hold?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.rotations import RotationMatching
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import DeepalignError
from deepalign_cli.malloc import return_large_blocks
from deepalign_cli.measure.spec_check import SpecCheck
from deepalign_cli.operations.session import Session
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.kinds import MOVABLE
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.stored_spec import refuse_assumptions
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensors import real_view, widened

_ROUNDINGS = 16.0
_SCALES = 1e-8  # to which scales are recovered: canonicalisation iterates
_TURNED = 8  # times as much rounding: every entry is a sum over a stream, twice
_UNSCALED = "only permutations were tried; --activation or --kinds also tries signs or scales"


@dataclass(frozen=True, repr=False)
class Verdict:
    """The answer.

    `residual` is the largest difference of any tensor relative to that tensor's largest entry, after
    the recovered element has acted; `worst` names the tensor. `spec` is there with a model only: without one
    the answer holds as far as `rests_on` does, the spec and its assumptions.
    """

    same: bool
    residual: float
    tolerance: float
    worst: str
    seconds: float
    groups: Mapping[str, Mapping[str, int]]
    spec: SpecCheck | None
    notes: tuple[str, ...]
    rests_on: Spec

    @property
    def says(self) -> str:
        """The answer, as far as it is known: a function only where the network was run."""
        if not self.same:
            return f"not the same up to the spec, see '{self.worst}'"
        if self.spec is not None and self.spec.passed:
            return f"same function: run on {self.spec.runs} input{'s' * (self.spec.runs != 1)}"
        count = len(self.rests_on.assumptions)
        assumed = f", with {count} assumption{'s' * (count != 1)}" if count else ""
        return f"the same up to the spec ({self.rests_on.basis}{assumed})"

    def __repr__(self) -> str:
        answer = self.says
        return f"Verdict({answer}: residual {self.residual:.3g}, tolerance {self.tolerance:.3g})"


def verify_session(
    session: Session, *, tolerance: float | None = None, progress: Progress = SILENT
) -> Verdict:
    """Recover the element that carries the second input onto the first, and the residual.

    Where the session names a model or data, the network is run too, and the spec is checked on it: on some
    of the data, else on random inputs, of a shape that is given, comes with the model, or is found by trying.
    `tolerance` defaults to a few roundings of the coarsest type in the files.

    Raises:
        DeepalignError: the inputs do not fit each other or the spec; the model does not run.
    """
    return_large_blocks()
    started, (a, b) = time.perf_counter(), session.inputs
    options = {"restarts": 10, **session.settings.options}
    settings = replace(session.settings, method="weights", options=options)
    symmetry = session.resolved
    session.check_finite()
    alignment = settings.aligner()(symmetry, a, b, rng=settings.rng(), progress=progress)
    residual, worst = _residual(a, b, alignment)
    limit = default_tolerance(a, b) if tolerance is None else tolerance
    if tolerance is None and alignment.symmetry.stretching:
        limit = max(4 * limit, _SCALES)
    turned = _turned(session) if residual > limit else None
    if turned is not None:
        found = RotationMatching()(turned, a, b, rng=settings.rng())
        lower, where = _residual(a, b, found)
        if lower < residual:
            symmetry, alignment, residual, worst = turned, found, lower, where
            limit = _TURNED * limit if tolerance is None else limit
    spec = session.asked.tried(symmetry, settings.seed)
    if session.settings.strict and not (spec and spec.passed):
        refuse_assumptions(symmetry.spec)
    bare = settings.activation is None and not alignment.symmetry.spec.kinds
    could = any(alignment.symmetry.spec.allowed(kind) for kind in MOVABLE)
    hints = [_UNSCALED] if residual > limit and bare and could and turned is None else []
    notes = tuple(dict.fromkeys((*a.notes, *b.notes, *alignment.symmetry.spec.notes, *hints)))
    seconds = time.perf_counter() - started
    answer = (residual <= limit, residual, limit, worst, seconds, alignment.groups, spec, notes)
    return Verdict(*answer, symmetry.spec)


def _turned(session: Session) -> Symmetry | None:
    """The symmetry in which groups turn, where the network tells of any."""
    try:
        turned = session.turned
    except DeepalignError:
        return None
    return turned if turned.within else None


def default_tolerance(*checkpoints: Checkpoint) -> float:
    """A few roundings of the coarsest floating-point type in the checkpoints."""
    infos = [info for checkpoint in checkpoints for info in checkpoint.infos.values() if info.is_float]
    known = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    epsilons = [torch.finfo(known[info.dtype]).eps for info in infos if info.dtype in known]
    return _ROUNDINGS * max(epsilons, default=0.0)


def _residual(a: Checkpoint, b: Checkpoint, alignment: Alignment) -> tuple[float, str]:
    residual, worst = 0.0, ""
    for name in a:
        pair = (real_view(a[name]), real_view(alignment.act(name, b[name])))
        x, y = (widened(w) if w.is_floating_point() else w.double() for w in pair)
        if x.numel() == 0:
            continue
        size = max(float(x.abs().max()), float(y.abs().max()))
        difference = float((x - y).abs().max()) / size if size else 0.0
        if difference > residual:
            residual, worst = difference, name
    return residual, worst
