"""The method `norms`: an aligner is called with two networks and returns an element of their symmetry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensors import is_trained


@dataclass(frozen=True)
class NormMatching:
    """The unit with the k-th largest norm in one network goes where the one of the other is.

    Its fields are the parameters of its row. It is a baseline: quick, and blind to what units compute.
    """

    order: float = 2.0

    def __call__(
        self, symmetry: Symmetry, reference: Mapping[str, Tensor], moving: Mapping[str, Tensor], *,
        rng: torch.Generator, progress: Progress = SILENT,
    ) -> Alignment:  # fmt: skip
        started = time.perf_counter()
        perm = {}
        for group, size in symmetry.sizes.items():
            mine, other = (self._norms(symmetry, group, network) for network in (reference, moving))
            perm[group] = torch.empty(size, dtype=torch.int64)
            perm[group][mine.argsort(stable=True)] = other.argsort(stable=True)  # place i gets unit perm[i]
            progress(1 / len(symmetry.sizes))
        element = Element(perm)
        apart = [distance(symmetry, reference, moving, g) for g in (None, element)]
        return Alignment(symmetry, element, "norms", time.perf_counter() - started, apart[0], apart[1])

    def _norms(self, symmetry: Symmetry, group: str, network: Mapping[str, Tensor]) -> Tensor:
        """The norm of all that belongs to each unit: `symmetry` knows which entries of which tensors."""
        names = dict.fromkeys(place.name for place in symmetry.occurrences[group])
        trained = [name for name in names if is_trained(name, network[name])]
        rows = [symmetry.rows(group, name, network[name]).double() for name in trained]
        return torch.linalg.vector_norm(torch.cat(rows, 1), self.order, dim=1)
