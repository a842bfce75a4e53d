"""Tracing from end to end: export, walk, write, check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import nn

from deepalign_cli.models.example import Example
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.tracing.check import Checked, Trial, check
from deepalign_cli.tracing.program import Program, export
from deepalign_cli.tracing.sine_phases import with_phases
from deepalign_cli.tracing.turning import turning
from deepalign_cli.tracing.walk import Walk
from deepalign_cli.tracing.write import Traced, write


def trace(
    module: nn.Module, example: Example, *, outputs: Sequence[str] = (), source: str = "a trace",
    checked: bool = True, turns: bool = False, weights: Weights | None = None, last: Last | None = None,
    progress: Progress = SILENT,
) -> Traced:  # fmt: skip
    """The symmetry of a module in evaluation mode, by what its operations demand.

    `outputs` names those that count, where the module returns several by name. The spec is sound for the
    path that the example takes; with `checked` random elements of it are tried in float64 besides, and
    groups that fail stay in place. It is run with `weights` (by the module's names), or with its own, made
    random; on "meta" with fresh ones. With `turns` what may turn is found, too. `last` keeps the program.

    Raises:
        SpecError: the module cannot be exported with these inputs, or not be run for the check.
    """
    with _evaluating(module):
        program = export(module, example, outputs)
        progress(0.6)
        traced = label(program, source)
        progress(0.1)
        if not checked:
            return traced
        trial = Trial(module, example, outputs, weights=weights)
        traced = after_check(traced, check(traced.spec, module, example, trial=trial))
        traced = replace(traced, spec=with_phases(program, traced.spec, trial))
        progress(0.3)
        if last is not None:
            last.program, last.traced = program, traced
        if turns:
            traced = replace(traced, turned=turning(program, traced.spec, trial).spec)
    return traced


@dataclass
class Last:
    """The program of the module that was traced last, and its trace; `about` says which one it was."""

    about: str = ""
    program: Program | None = None
    traced: Traced | None = None

    def turned(
        self, module: nn.Module, example: Example, outputs: Sequence[str], weights: Weights | None
    ) -> Traced | None:
        """The trace with what turns, of the same module: it is not exported again. None where none is kept.

        Raises:
            SpecError: the module cannot be run.
        """
        if self.program is None or self.traced is None:
            return None
        with _evaluating(module):
            trial = Trial(module, example, outputs, weights=weights)
            return replace(self.traced, turned=turning(self.program, self.traced.spec, trial).spec)


def label(program: Program, source: str = "a trace") -> Traced:
    """The spec of a program, not yet checked."""
    return write(Walk(program).run(), len(program.nodes), source)


def after_check(traced: Traced, result: Checked) -> Traced:
    """The trace with what the check found."""
    stays = dict(traced.stays)
    for group, residual in result.failed.items():
        places = [
            (name, number)
            for name, axes in traced.spec.axes.items()
            for number, axis in enumerate(axes)
            if group in axis.groups()
        ]
        stays[f"failed the check: outputs change by {residual:.1e}; please report it"] = places
    return replace(traced, spec=result.spec, stays=stays, residual=result.residual, runs=result.runs)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module and its parts in evaluation mode, and afterwards as they were."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
