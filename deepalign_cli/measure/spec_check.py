"""Checking a spec against the network itself: a random element must leave the outputs unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Shaped
from torch import Tensor

from deepalign_cli.models.run import Run
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import in_dtype

TOLERANCE = 1e-9
_TRIALS = 200


@dataclass(frozen=True)
class SpecCheck:
    """`residual` is the largest output change relative to the largest output, in float64.

    `broken` maps each group whose element changes the outputs to the tensors to suspect: those whose
    entry for the group, added or removed, repairs it; else all tensors that carry the group.
    """

    residual: float
    broken: dict[str, tuple[str, ...]]

    @property
    def passed(self) -> bool:
        return self.residual <= TOLERANCE


def check_spec(
    run: Run, symmetry: Symmetry, weights: Weights, inputs: Shaped[Tensor, "batch ..."], rng: torch.Generator
) -> SpecCheck:
    """Run the network on inputs before and after a random element of the group."""
    probe = _Probe(run, symmetry, weights, inputs.double() if inputs.is_floating_point() else inputs)
    g = symmetry.random(rng)
    residual = probe.change(g)
    if residual <= TOLERANCE:
        return SpecCheck(residual, {})
    broken = [group for group in symmetry.sizes if probe.change(symmetry.only(g, [group])) > TOLERANCE]
    return SpecCheck(residual, {group: probe.suspects(symmetry.only(g, [group]), group) for group in broken})


class _Probe:
    def __init__(
        self, run: Run, symmetry: Symmetry, weights: Weights, inputs: Shaped[Tensor, "batch ..."]
    ) -> None:
        self.run, self.symmetry, self.inputs = run, symmetry, inputs
        self.weights = in_dtype(weights, torch.float64)
        self.expected = self._run(self.weights)

    def change(self, g: Element, instead: dict[str, Tensor] | None = None) -> float:
        """The relative output change under `g`, with some tensors replaced."""
        moved = self.symmetry.apply(g, self.weights) | (instead or {})
        difference = (self._run(moved) - self.expected).abs().max()
        return float(difference / self.expected.abs().max().clamp(min=1e-300))

    def suspects(self, g: Element, group: str) -> tuple[str, ...]:
        """The tensors at which one changed entry makes the element harmless."""
        mending = [
            f"{name} ({text})"
            for name, text, tensor in islice(self._trials(g, group), _TRIALS)
            if self.change(g, {name: tensor}) <= TOLERANCE
        ]
        carriers = dict.fromkeys(place.name for place in self.symmetry.occurrences[group])
        return tuple(mending) or tuple(carriers)

    def _trials(self, g: Element, group: str) -> Iterator[tuple[str, str, Tensor]]:
        carried = {(o.name, o.axis) for o in self.symmetry.occurrences[group]}
        size, perm = self.symmetry.sizes[group], g.perm[group]
        for name, axis in sorted(carried):
            yield name, f"axis {axis} should not carry '{group}'", self.weights[name]
        for name, w in self.weights.items():
            for axis, extent in enumerate(w.shape):
                if (name, axis) not in carried and extent % size == 0 and w.is_floating_point():
                    index = torch.arange(extent).reshape(size, -1)[perm].flatten()
                    moved = self.symmetry.act(g, name, w).index_select(axis, index)
                    yield name, f"axis {axis} should carry '{group}'", moved

    def _run(self, weights: Weights) -> Tensor:
        with torch.no_grad():
            return self.run(weights, self.inputs).double()
