"""Matching units by their profile: what of a unit no element of the group can change.

The sorted absolute entries of a unit's rows do not depend on how other units are ordered or signed,
so a planted element is read off at once, however deep the network. Independently trained networks
share little of it: for them this is no more than a start.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor

from deepalign_cli.aligners.gains import Gains
from deepalign_cli.assignment import assign
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.tensors import widened

_QUANTILES = 64
_ROWS = 128  # sorted at a time


def profile_element(problem: Gains) -> Element:
    """For every group the assignment between the units' profiles; signs follow from the signed rows."""
    perm: dict[str, Tensor] = {}
    scale: dict[str, Tensor] = {}
    for group in problem.symmetry.sizes:
        perm[group] = profile_match(problem, group)[0]
    g = Element(perm)
    for group in problem.symmetry.turning:
        flipping = problem.matrices(group, replace(g, scale=dict(scale))).flipping
        if flipping is not None:
            scale[group] = torch.where(flipping.diagonal() < 0, -1.0, 1.0).double()
    return Element(perm, scale)


def profile_match(problem: Gains, group: str) -> tuple[Int64[Tensor, " n"], float]:
    """The assignment between the units' profiles, and the matched profiles' distance over the mean one."""
    apart = _distances(problem, group)
    perm = assign(-apart)
    mean = float(apart.mean())
    return perm, float(apart[torch.arange(len(perm)), perm].mean()) / mean if mean else 0.0


def profiles_match(problem: Gains, group: str, most: float) -> bool:
    """Whether the matched profiles' distance over the mean one is `most` at most.

    That of each unit's nearest profile can only be less, so that nothing need be assigned to say no.
    """
    apart = _distances(problem, group)
    if float(apart.amin(1).mean()) > most * float(apart.mean()):
        return False
    return profile_match(problem, group)[1] <= most


def _distances(problem: Gains, group: str) -> Float[Tensor, "n n"]:
    own, other = profiles(problem, group, reference=True), profiles(problem, group, reference=False)
    return torch.cdist(own, other)


def profiles(problem: Gains, group: str, *, reference: bool) -> Float[Tensor, "n features"]:
    """One row a unit: quantiles of its absolute entries in every tensor, and their mean square."""
    weights = problem.reference if reference else problem.moving
    parts = []
    for place in problem.symmetry.occurrences[group]:
        if place.name in problem.names[group]:
            rows = problem.symmetry.unfold(place, widened(weights[place.name]))
            size = float(torch.linalg.vector_norm(rows, dtype=torch.float64)) / rows.numel() ** 0.5
            parts.append(_quantiles(rows) / (size + 1e-30))
    return torch.cat(parts, dim=1) if parts else torch.zeros(problem.symmetry.sizes[group], 1)


def _quantiles(rows: Num[Tensor, "n rest"]) -> Float[Tensor, "n quantiles"]:
    """Evenly spaced order statistics of each row's absolute entries, some rows at a time."""
    columns = np.linspace(0, rows.shape[1] - 1, min(_QUANTILES, rows.shape[1])).round().astype(np.int64)
    parts = [np.sort(part.float().abs().numpy(), axis=1)[:, columns] for part in torch.split(rows, _ROWS)]
    return torch.from_numpy(np.concatenate(parts))
