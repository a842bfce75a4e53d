"""Checking a spec against the network itself: a random element must leave the outputs unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from deepalign_cli.models.renamed import Renamed
from deepalign_cli.models.subject import Subject
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.tracing.check import TOLERANCE, Trial

_TRIALS = 200


@dataclass(frozen=True)
class SpecCheck:
    """`residual` is the largest change of an output relative to the spread of the outputs, in float64.

    `broken` maps each group whose element changes the outputs to the tensors to suspect: those whose
    entry for the group, added or removed, repairs it; else all tensors that carry the group. `runs` is the
    number of inputs that the network was run on.
    """

    residual: float
    broken: Mapping[str, tuple[str, ...]]
    runs: int = 0

    @property
    def passed(self) -> bool:
        return not self.broken


def check_spec(subject: Subject, symmetry: Symmetry, weights: Weights, seed: int = 0) -> SpecCheck:
    """Run the network before and after random elements of the group; `weights` are made random, too.

    Raises:
        SpecError: the network cannot be run in float64, or its outputs do not depend on its inputs.
    """
    given = Renamed(weights, {full: name for name, full in subject.names.items()})
    trial = Trial(subject.module, subject.example, weights=given, seed=seed)
    names = subject.names
    known = {name: axes for name, axes in symmetry.spec.axes.items() if name in names}
    spec = symmetry.spec.with_axes(known).renamed(lambda name: names.get(name, name))
    sizes = {group: symmetry.sizes[group] for group in spec.groups()}
    own = Symmetry(replace(spec, sizes=sizes), trial.shapes)
    residual, failed = trial.of(own)
    back = {full: name for name, full in names.items()}
    broken = {group: _suspects(trial, own, group, back) for group in failed}
    return SpecCheck(residual, broken, len(trial.examples))


def _suspects(trial: Trial, symmetry: Symmetry, group: str, names: Mapping[str, str]) -> tuple[str, ...]:
    """The tensors at which one changed entry makes an element of the group harmless."""
    own = symmetry.without_gains(trial.state)
    g = own.inverse() @ symmetry.only(symmetry.random(trial.rng), [group]) @ own
    mending = [
        f"{names.get(name, name)} ({text})"
        for name, text, tensor in islice(_trials(trial.state, symmetry, g, group), _TRIALS)
        if trial.change(symmetry, g, {name: tensor}) <= TOLERANCE
    ]
    carriers = dict.fromkeys(names.get(o.name, o.name) for o in symmetry.occurrences[group])
    return tuple(mending) or tuple(carriers)


def _trials(
    weights: Weights, symmetry: Symmetry, g: Element, group: str
) -> Iterator[tuple[str, str, Tensor]]:
    carried = {(o.name, o.axis) for o in symmetry.occurrences[group]}
    size, perm = symmetry.sizes[group], g.perm.get(group)
    for name, axis in sorted(carried):
        yield name, f"axis {axis} should not carry '{group}'", weights[name]
    for name, w in weights.items() if perm is not None else ():
        for axis, extent in enumerate(w.shape):
            if (name, axis) not in carried and extent % size == 0 and w.is_floating_point():
                index = torch.arange(extent).reshape(size, -1)[perm].flatten()
                moved = symmetry.act(g, name, w).index_select(axis, index)
                yield name, f"axis {axis} should carry '{group}'", moved
