"""An element of the symmetry group: for every group of units a permutation, perhaps scales, or a rotation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from deepalign_cli.symmetry.turns import Turn

Vectors = Mapping[str, Tensor]  # by the tensor's name


@dataclass(frozen=True)
class Element:
    """Place i of the result holds unit `perm[i]` of the input, times `scale[i]`.

    Groups that `perm` does not name stay as they are; `scale` names only groups whose kind multiplies, and
    `turn` only those that it mixes, which are not permuted. Which power of a unit's scale, and whether its
    sign, meets an entry is for the spec's marks to say.

    Streams turn only where their norms have no gains, so an element that turns one goes from networks with
    the gains `enter`, which are first taken into the layers behind the norms, to such with the gains
    `leave`, which are taken out of these. A gain that is not named is 1.

    `shift` is by how many half turns the phases of sine units move, after their sign: a whole number each.

    >>> g = Element({"k": torch.tensor([2, 0, 1])}, {"k": torch.tensor([1.0, 2.0, 1.0]).double()})
    >>> (g @ g.inverse()).perm["k"]
    tensor([0, 1, 2])
    >>> g.moved("k"), (g @ g.inverse()).moved("k")
    (3, 0)
    """

    perm: Mapping[str, Int64[Tensor, " _"]]
    scale: Mapping[str, Float64[Tensor, " _"]] = field(default_factory=dict)
    turn: Mapping[str, Turn] = field(default_factory=dict)
    enter: Vectors = field(default_factory=dict)
    leave: Vectors = field(default_factory=dict)
    shift: Mapping[str, Float64[Tensor, " _"]] = field(default_factory=dict)

    def __matmul__(self, other: Element) -> Element:
        """The element that acts as `other` first and `self` second, from the gains that `other` leaves."""
        perm = dict(other.perm)
        scale = dict(other.scale)
        for group, index in self.perm.items():
            perm[group] = other.perm[group][index] if group in other.perm else index
            if group in other.scale:
                scale[group] = other.scale[group][index]
        for group, factor in self.scale.items():
            scale[group] = factor * scale[group] if group in scale else factor
        turn = {group: one.moved_by(self.perm.get(one.within)) for group, one in other.turn.items()}
        for group, one in self.turn.items():
            turn[group] = one @ turn[group] if group in turn else one
        enter = other.enter if other._meets_gains else self.enter
        leave = self.leave if self._meets_gains else other.leave
        return Element(perm, scale, turn, enter, leave, self._shifted_after(other))

    def _shifted_after(self, other: Element) -> Mapping[str, Float64[Tensor, " _"]]:
        """By how many half turns both together move phases: b becomes c b + k, and then c' (c b + k) + k'."""
        shift = dict(self.shift)
        for group, turns in other.shift.items():
            moved = turns[self.perm[group]] if group in self.perm else turns
            moved = moved * self.scale[group].sign() if group in self.scale else moved
            shift[group] = moved + shift[group] if group in shift else moved
        return shift

    @property
    def _meets_gains(self) -> bool:
        """Whether it acts on what stands behind norms, so that gains would be in its way."""
        return bool(self.turn or self.enter or self.leave)

    def inverse(self) -> Element:
        """The element that undoes this one."""
        perm = {group: torch.argsort(index) for group, index in self.perm.items()}
        scale = {g: 1.0 / (factor[perm[g]] if g in perm else factor) for g, factor in self.scale.items()}
        turn = {group: one.transposed.moved_by(perm.get(one.within)) for group, one in self.turn.items()}
        shift = {
            g: -turns * self.scale[g].sign() if g in self.scale else -turns for g, turns in self.shift.items()
        }
        shift = {g: turns[perm[g]] if g in perm else turns for g, turns in shift.items()}
        return Element(perm, scale, turn, self.leave, self.enter, shift)

    def moved(self, group: str) -> int:
        """How many units of `group` leave their place, change their sign, scale or phase, or turn."""
        if group in self.turn:
            return self.turn[group].moved
        parts = (part[group] for part in (self.perm, self.scale, self.shift) if group in part)
        size = next(map(len, parts), 0)
        still = torch.ones(size, dtype=torch.bool)
        if group in self.perm:
            still &= self.perm[group] == torch.arange(size)
        if group in self.scale:
            still &= self.scale[group] == 1.0
        if group in self.shift:
            still &= self.shift[group] == 0
        return int((~still).sum())
