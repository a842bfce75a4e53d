"""The gain of matching unit i of the reference with unit j of the moving network, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.align.alignment import is_trained, widened
from deepalign_cli.assignment import assign
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Kind
from deepalign_cli.symmetry.symmetry import Symmetry, Weights


@dataclass(frozen=True)
class Step:
    """A relative move of one group: by how much the objective rises if it is taken."""

    perm: Int64[Tensor, " n"]
    sign: Float[Tensor, " n"] | None
    rise: float


class Gains:
    """The matching problem of two networks: its objective is sum_t <A_t, (g B)_t>.

    Tensors are read from the mappings when they are needed and not kept. Gains are taken in the frame
    of the current element, so that the identity is always the step that changes nothing.
    """

    def __init__(self, symmetry: Symmetry, reference: Weights, moving: Weights) -> None:
        self.symmetry, self.reference, self.moving = symmetry, reference, moving
        self.names = {g: self._tensors(g) for g in symmetry.sizes}
        self.neighbours = {
            g: {h for name in names for h in symmetry.groups_of(name)} - {g} for g, names in self.names.items()
        }

    def matrices(self, group: str, g: Element) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"] | None]:
        """The gains under `g`: of entries that only move, and (sign groups) of entries that also flip."""
        signed = self.symmetry.kinds[group] is Kind.SIGN
        parts: dict[bool, Tensor | None] = {False: None, True: None}
        for name in self.names[group]:
            a = widened(self.reference[name])
            b = self.symmetry.act(g, name, widened(self.moving[name]))
            for place in self.symmetry.occurrences[group]:
                if place.name == name:
                    flips = signed and bool(place.mark)
                    parts[flips] = _accumulate(parts[flips], self.symmetry.unfold(place, a), self.symmetry.unfold(place, b))
        plain, flipping = parts[False], parts[True]
        if plain is None:
            plain = torch.zeros_like(flipping) if flipping is not None else torch.zeros([self.symmetry.sizes[group]] * 2)
        return plain, flipping

    def best_step(self, group: str, g: Element) -> Step:
        """The best relative move of one group while all others stay.

        For sign groups the assignment is solved on |C| and the sign of C taken at the chosen entries,
        which is optimal for odd activations (Boufalis et al. 2025, Proposition 1); 0 counts as +.
        """
        plain, flipping = self.matrices(group, g)
        value = plain if flipping is None else plain + flipping.abs()
        perm = assign(value)
        units = torch.arange(len(perm))
        still = plain.diagonal() if flipping is None else plain.diagonal() + flipping.diagonal()
        rise = float(value[units, perm].sum(dtype=torch.float64) - still.sum(dtype=torch.float64))
        sign = None if flipping is None else torch.where(flipping[units, perm] < 0, -1.0, 1.0)
        return Step(perm, sign, rise)

    def objective(self, g: Element, group: str | None = None) -> float:
        """The objective under `g`, over all moved tensors or those that `group` moves."""
        names = self.names[group] if group else dict.fromkeys(n for names in self.names.values() for n in names)
        total = 0.0
        for name in names:
            b = self.symmetry.act(g, name, widened(self.moving[name]))
            total += float((widened(self.reference[name]) * b).sum(dtype=torch.float64))
        return total

    @cached_property
    def scale(self) -> float:
        """|A| |B| over the moved tensors: the largest value that the objective can take."""
        energy = [0.0, 0.0]
        for name in dict.fromkeys(n for names in self.names.values() for n in names):
            for side, weights in enumerate((self.reference, self.moving)):
                energy[side] += float(torch.linalg.vector_norm(widened(weights[name]), dtype=torch.float64)) ** 2
        return (energy[0] * energy[1]) ** 0.5

    def is_linear(self, group: str) -> bool:
        """Whether no tensor carries the group twice, so that a step's rise is exact."""
        places = self.symmetry.occurrences[group]
        return len({place.name for place in places}) == len(places)

    def _tensors(self, group: str) -> tuple[str, ...]:
        names = dict.fromkeys(place.name for place in self.symmetry.occurrences[group])
        return tuple(name for name in names if is_trained(name, self.reference[name]))


def _accumulate(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    a, b = a.to(torch.promote_types(a.dtype, b.dtype)), b.to(torch.promote_types(a.dtype, b.dtype))
    if total is None:
        return a @ b.T
    if total.dtype != a.dtype:
        return total + a @ b.T
    return total.addmm_(a, b.T)
