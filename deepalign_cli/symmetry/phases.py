"""Phases of sine units: what a half turn of a unit's phase adds to its bias, and which tensors it flips.

A unit computes sin(w0 (w x + b)). Since sin(z + pi) = -sin(z), adding pi / w0 to b flips the unit, and what
reads it flips back; two half turns, 2 pi / w0, change nothing. With the sign, sin(-z) = -sin(z), the weights
that make a unit and those that read it have signs of their own, and b moves by whole half turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.kinds import Kind
from deepalign_cli.symmetry.phase import Phase

if TYPE_CHECKING:
    from deepalign_cli.symmetry.element import Element
    from deepalign_cli.symmetry.spec import Spec

_HINT = "a line of [phases] names a bias, its half_turn (pi / w0), and what flips by it: the readers."
_MOST_DRAWN = 2  # half turns, either way, of a random element


class Phases:
    """Where a spec's phases act. A phase is at rest where its group has no sign.

    Raises:
        SpecError: a bias is no vector with one group, a tensor that is to flip does not carry that group, or
            two biases have the same one.
    """

    def __init__(self, spec: Spec, kinds: Mapping[str, Kind]) -> None:
        self.biases: dict[str, str] = {}  # by group
        self.half_turns: dict[str, float] = {}  # by group
        self._flips: dict[str, tuple[str, ...]] = {}  # a tensor's groups whose half turns flip it
        for bias, phase in spec.phases.items():
            group = _group_of(spec, bias, phase)
            if group in self.biases:
                raise SpecError(f"the units of '{group}' have two phases in the spec.", _HINT)
            if kinds[group].turns:
                self.biases[group], self.half_turns[group] = bias, phase.half_turn
                for name in phase.flips:
                    self._flips[name] = (*self._flips.get(name, ()), group)
        self._group_of = {bias: group for group, bias in self.biases.items()}

    def __bool__(self) -> bool:
        return bool(self.biases)

    def flips(self, group: str, name: str) -> bool:
        """Whether half turns of the group flip a tensor."""
        return group in self._flips.get(name, ())

    def felt(self, g: Element, name: str) -> Element:
        """The element whose signs are those that the tensor's entries meet: with those of half turns."""
        groups = [group for group in self._flips.get(name, ()) if group in g.shift]
        if not groups:
            return g
        signs = {group: 1.0 - 2.0 * (g.shift[group] % 2) for group in groups}
        return replace(g, scale={**g.scale, **{h: s * g.scale.get(h, 1.0) for h, s in signs.items()}})

    def added(self, g: Element, name: str) -> Float64[Tensor, " n"] | None:
        """What half turns add to a bias whose units have moved already; None where they add nothing."""
        group = self._group_of.get(name)
        return None if group is None or group not in g.shift else self.half_turns[group] * g.shift[group]

    def random(self, sizes: Mapping[str, int], rng: torch.Generator) -> dict[str, Tensor]:
        """Random half turns of all units with a phase."""
        low, high = -_MOST_DRAWN, _MOST_DRAWN + 1
        return {g: torch.randint(low, high, (sizes[g],), generator=rng).double() for g in self.biases}

    def allows(self, group: str, shift: Tensor, size: int) -> bool:
        """Whether half turns that were read from a file are such of this group."""
        whole = bool((shift.isfinite() & (shift == shift.round()) & (shift.abs() < 2**31)).all())
        return group in self.biases and len(shift) == size and whole


def _group_of(spec: Spec, bias: str, phase: Phase) -> str:
    axes = spec.axes.get(bias, ())
    groups = tuple(axes[0].groups()) if len(axes) == 1 else ()
    if len(groups) != 1 or [atom.name for atom in axes[0].atoms()] != [*groups]:
        raise SpecError(f"'{bias}' has a phase in the spec and is no vector of one group's units.", _HINT)
    for name in phase.flips:
        atoms = [atom for axis in spec.axes.get(name, ()) for atom in axis.atoms() if atom.name == groups[0]]
        if not atoms or not all(map(spec.flips, atoms)):
            problem = f"'{name}' does not flip with the group '{groups[0]}' of the phase of '{bias}'."
            raise SpecError(problem, _HINT)
    if not phase.flips:
        raise SpecError(f"nothing flips by the phase of '{bias}' in the spec.", _HINT)
    return groups[0]
