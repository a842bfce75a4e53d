"""The best move of one group while all others stay: which unit goes where, with which sign and phase."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.assignment import assign
from deepalign_cli.symmetry.element import Element


@dataclass(frozen=True)
class Step:
    """A relative move of one group: by how much the objective rises if it is taken."""

    perm: Int64[Tensor, " n"]
    sign: Float[Tensor, " n"] | None
    rise: float
    shift: Float[Tensor, " n"] | None = None

    def element(self, group: str) -> Element:
        """The step as an element of the symmetry group."""
        sign, shift = ({} if x is None else {group: x.double()} for x in (self.sign, self.shift))
        return Element({group: self.perm}, sign, shift=shift)


@dataclass(frozen=True)
class Matrices:
    """The gains under `element`: of entries that only move, and (sign groups) of entries that also flip."""

    plain: Float[Tensor, "n n"]
    flipping: Float[Tensor, "n n"] | None
    element: Element
    age: int = 0  # updates since they were computed whole


def best_step(gains: Matrices) -> Step:
    """The best relative move of one group while all others stay.

    For sign groups the assignment is solved on |C| and the sign of C taken at the chosen entries,
    which is optimal for odd activations (Boufalis et al. 2025, Proposition 1); 0 counts as +.
    """
    plain, flipping = gains.plain, gains.flipping
    value = plain if flipping is None else plain + flipping.abs()
    perm = assign(value)
    units = torch.arange(len(perm))
    still = plain.diagonal() if flipping is None else plain.diagonal() + flipping.diagonal()
    rise = float(value[units, perm].sum(dtype=torch.float64) - still.sum(dtype=torch.float64))
    sign = None if flipping is None else torch.where(flipping[units, perm] < 0, -1.0, 1.0)
    return Step(perm, sign, rise)


def signed_step(
    plain: Float[Tensor, "n n"], made: Float[Tensor, "n n"] | int, read: Float[Tensor, "n n"] | int,
    biases: tuple[Float[Tensor, " n"], Float[Tensor, " n"]], half_turn: float,
) -> Step:  # fmt: skip
    """The best move of units with phases: each has a sign s of what makes it and a sign t of what reads it.

    Its bias b becomes s b + k h, with the whole number k of half turns h, even where s = t and else odd, that
    brings it nearest to the bias a of its partner. `made` and `read` are the gains of the two parts.
    """
    a, b = biases[0].double()[:, None], biases[1].double()[None]
    ways = [(1, 1), (1, -1), (-1, -1), (-1, 1)]
    turns = [nearest_turns(a - s * b, half_turn, odd=int(s != t)) for s, t in ways]
    values = torch.stack([
        plain + s * made + t * read - (a - s * b - k * half_turn).square() / 2
        for (s, t), k in zip(ways, turns, strict=True)
    ])  # fmt: skip
    best = values.max(dim=0)
    perm = assign(best.values)
    units = torch.arange(len(perm))
    way = best.indices[units, perm]
    still = plain + made + read - (a - b).square() / 2
    rise = float(best.values[units, perm].sum() - still.diagonal().sum())
    sign = torch.tensor([s for s, _ in ways]).double()[way]
    return Step(perm, sign, rise, torch.stack(turns)[way, units, perm])


def nearest_turns(difference: Float[Tensor, ...], half_turn: float, *, odd: int) -> Float[Tensor, ...]:
    """The even or odd numbers of half turns that are nearest to the differences."""
    return 2 * ((difference / half_turn - odd) / 2).round() + odd
