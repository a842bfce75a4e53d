"""What every method returns, and what every method is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_trained, widened


@dataclass(frozen=True)
class Alignment:
    """An element that carries `moving` onto `reference`.

    `distance_before` and `distance_after` are Euclidean distances over all trained tensors (running
    statistics are left out). `objective` records the method's own objective after every accepted step.
    """

    element: Element
    method: str
    seconds: float
    distance_before: float
    distance_after: float
    objective: tuple[float, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


@runtime_checkable
class Aligner(Protocol):
    """A method: from two networks to the element that carries the second onto the first."""

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator
    ) -> Alignment: ...


def distance(symmetry: Symmetry, reference: Weights, moving: Weights, g: Element | None = None) -> float:
    """The Euclidean distance between `reference` and g `moving` over all trained tensors."""
    total = 0.0
    for name in reference:
        a, b = reference[name], moving[name]
        if is_trained(name, a):
            b = symmetry.act(g, name, b) if g else b
            total += float(torch.linalg.vector_norm(widened(a) - widened(b), dtype=torch.float64)) ** 2
    return math.sqrt(total)
