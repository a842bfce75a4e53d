"""What every method returns, and what every method is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from deepalign_cli.aligners.refinements import REFINEMENTS
from deepalign_cli.checkpoint.names import common_prefix, logical_names
from deepalign_cli.errors import MismatchError
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.acted import Acted
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.sums import squared_distance
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_trained


@dataclass(frozen=True, repr=False)
class Alignment:
    """An element of `symmetry` that carries a moving network onto a reference.

    `distance_before` and `distance_after` are Euclidean distances over all trained tensors (running
    statistics are left out). `objective` records the method's own objective after every accepted step.
    `details` are what the method tells of its work, `making` how it was set. `hashes` are the sha256 of the
    reference and the moving input, where the alignment comes from a file.
    """

    symmetry: Symmetry
    element: Element
    method: str
    seconds: float
    distance_before: float
    distance_after: float
    objective: tuple[float, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)
    making: Mapping[str, object] = field(default_factory=dict)
    hashes: tuple[str, str] | None = None

    def __repr__(self) -> str:
        units = sum(self.symmetry.sizes.values())
        distance = f"distance {self.distance_before:.4g} -> {self.distance_after:.4g}"
        return f"Alignment({self.method}: {self.moved} of {units} units moved, {distance})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{group['size']}</td><td>{group['moved']}</td></tr>"
            for name, group in self.groups.items()
        )
        heads = "<tr><th>group</th><th>units</th><th>moved</th></tr>"
        return f"<p>{escape(repr(self))}</p><table>{heads}{rows}</table>"

    def to_dict(self) -> dict[str, object]:
        """The figures, and every group's permutation, factors, rotations and half turns as lists."""
        return {
            "method": self.method, "seconds": self.seconds, "distance_before": self.distance_before,
            "distance_after": self.distance_after, "groups": self.groups, "notes": list(self.notes),
            "permutations": {group: perm.tolist() for group, perm in self.element.perm.items()},
            "factors": {group: factors.tolist() for group, factors in self.element.scale.items()},
            "rotations": {group: turn.matrix.tolist() for group, turn in self.element.turn.items()},
            "half_turns": {group: turns.int().tolist() for group, turns in self.element.shift.items()},
        }  # fmt: skip

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """What the user should know of the work: what was kept of a prediction and why, and more."""
        notes, unread = (
            [str(item) for item in items] if isinstance(items := self.details.get(key), list | tuple) else []
            for key in ("notes", "unread")
        )
        if unread:
            notes.append(
                f"no layer was seen to read {', '.join(unread)}: matched by weights, not by activations"
            )
        if "kept" in self.details:
            network, sketches, kept, why = (self.details[k] for k in ("network", "sketches", "kept", "why"))
            count = f", {sketches} sketch{'' if sketches == 1 else 'es'}" if sketches else ""
            notes.insert(0, f"{network}{count}; kept {REFINEMENTS[str(kept)].keeps}: {why}")
        return tuple(notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """The remarks, and what the spec takes for granted."""
        return (*self.remarks, *self.symmetry.spec.notes)

    @property
    def distances(self) -> tuple[float, float]:
        """Before and after."""
        return self.distance_before, self.distance_after

    @cached_property
    def groups(self) -> dict[str, dict[str, int]]:
        """`{group: {size, moved}}`."""
        return {g: {"size": n, "moved": self.element.moved(g)} for g, n in self.symmetry.sizes.items()}

    @property
    def moved(self) -> int:
        """How many units leave their place, change their sign or scale, or turn."""
        return sum(group["moved"] for group in self.groups.values())

    def between(self, reference: Weights, moving: Weights) -> Alignment:
        """The same for networks whose norms have other gains than those that it was found for.

        Raises:
            MismatchError: a gain is too small for streams to turn.
        """
        if not self.symmetry.spec.gains:
            return self
        norms = self.symmetry.norms
        element = replace(self.element, enter=norms.of(moving), leave=norms.of(reference))
        return replace(self, element=element)

    @cached_property
    def is_still(self) -> bool:
        """Whether nothing changes: no unit moves, and gains of norms are not exchanged."""
        return not (self.moved or self.element.enter or self.element.leave)

    def act(self, name: str, w: Tensor) -> Tensor:
        """One tensor of the moving network, in the reference's units."""
        return self.symmetry.act(self.element, name, w)

    def apply(self, weights: Weights) -> Weights:
        """The moving network in the reference's units, tensor by tensor as they are asked for.

        All names may begin with what checkpoints are read without, as `module.`. Gains of norms that turn are
        taken from this very network, so that any other in the same units, as one trained on, may be moved.

        Raises:
            MismatchError: a tensor that belongs to the network is not there, or a gain is too small.
        """
        wanted = {**self.symmetry.spec.axes, **self.symmetry.spec.gains}
        names = {name: name for name in weights}
        if not wanted.keys() <= names.keys():
            names = logical_names(weights, common_prefix(weights))
        if lost := [name for name in wanted if name not in names.values()]:
            raise MismatchError(f"'{lost[0]}' is not among the tensors.", "give the whole network.")
        if self.is_still:
            return weights
        own = {name: weights[full] for full, name in names.items() if name in self.symmetry.spec.gains}
        element = replace(self.element, enter=self.symmetry.norms.of(own)) if own else self.element
        return Acted(self.symmetry, element, weights, names)


@runtime_checkable
class Aligner(Protocol):
    """A method: from two networks to the element that carries the second onto the first."""

    def __call__(
        self, symmetry: Symmetry, reference: Weights, moving: Weights, *, rng: torch.Generator,
        progress: Progress = SILENT,
    ) -> Alignment: ...  # fmt: skip


def distance(symmetry: Symmetry, reference: Weights, moving: Weights, g: Element | None = None) -> float:
    """The Euclidean distance between `reference` and g `moving` over all trained tensors."""
    total = 0.0
    for name in reference:
        a, b = reference[name], moving[name]
        if is_trained(name, a):
            b = symmetry.act(g, name, b) if g else b
            total += squared_distance(a, b)
    return math.sqrt(total)
