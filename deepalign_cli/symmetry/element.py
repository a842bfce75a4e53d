"""An element of the symmetry group: for every group of units a permutation and, perhaps, scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64, Int64
from torch import Tensor


@dataclass(frozen=True)
class Element:
    """Place i of the result holds unit `perm[i]` of the input, times `scale[i]`.

    Groups that `perm` does not name stay as they are; `scale` names only groups whose kind multiplies.
    Which power of a unit's scale, and whether its sign, meets an entry is for the spec's marks to say.

    >>> g = Element({"k": torch.tensor([2, 0, 1])}, {"k": torch.tensor([1.0, 2.0, 1.0]).double()})
    >>> (g @ g.inverse()).perm["k"]
    tensor([0, 1, 2])
    >>> g.moved("k"), (g @ g.inverse()).moved("k")
    (3, 0)
    """

    perm: Mapping[str, Int64[Tensor, " _"]]
    scale: Mapping[str, Float64[Tensor, " _"]] = field(default_factory=dict)

    def __matmul__(self, other: Element) -> Element:
        """The element that acts as `other` first and `self` second."""
        perm = dict(other.perm)
        scale = dict(other.scale)
        for group, index in self.perm.items():
            perm[group] = other.perm[group][index] if group in other.perm else index
            if group in other.scale:
                scale[group] = other.scale[group][index]
        for group, factor in self.scale.items():
            scale[group] = factor * scale[group] if group in scale else factor
        return Element(perm, scale)

    def inverse(self) -> Element:
        """The element that undoes this one."""
        perm = {group: torch.argsort(index) for group, index in self.perm.items()}
        scale = {g: 1.0 / (factor[perm[g]] if g in perm else factor) for g, factor in self.scale.items()}
        return Element(perm, scale)

    def moved(self, group: str) -> int:
        """How many units of `group` leave their place or change their sign or scale."""
        size = len(self.perm[group]) if group in self.perm else len(self.scale.get(group, ()))
        still = torch.ones(size, dtype=torch.bool)
        if group in self.perm:
            still &= self.perm[group] == torch.arange(size)
        if group in self.scale:
            still &= self.scale[group] == 1.0
        return int((~still).sum())
