"""Finding the element that carries one input onto the reference: computed, or read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deepalign_cli.align.activations import Evidence
from deepalign_cli.align.alignment import Aligner, distance
from deepalign_cli.align.artifact import SavedAlignment, check_element, load_alignment, save_alignment
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import MismatchError, UsageError
from deepalign_cli.operations.settings import Settings, bind, check_finite
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.resolve import check_same_layout, shapes_of
from deepalign_cli.symmetry.symmetry import Symmetry

_KEPT = {
    "none": "the prediction",
    "prior": "the prediction, refined with its neighbours",
    "weights": "weight matching from the prediction",
    "activations": "the prediction with activations",
    "activations alone": "activation matching",
    "dual alone": "activations and weights together",
    "dual": "prediction, activations and weights together",
}


@dataclass(frozen=True)
class Found:
    """An element for one moving input.

    `hashes` are those that a saved alignment was made for, `making` how its method was set, `details` what
    the aligner tells of its work, `seconds` what finding the element took.
    """

    symmetry: Symmetry
    element: Element
    method: str
    distances: tuple[float, float]
    hashes: tuple[str, str] | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    making: Mapping[str, object] = field(default_factory=dict)
    seconds: float = 0.0

    def check_hashes(self, reference: str, moving: str) -> None:
        """Check that a saved alignment belongs to the inputs of these hashes.

        Raises:
            MismatchError: it was made for others.
        """
        if self.hashes not in (None, (reference, moving)):
            which = "reference" if self.hashes and self.hashes[0] != reference else "moving input"
            raise MismatchError(
                f"the alignment was made for another {which}: the sha256 differs.",
                "align these inputs anew, or use it all the same with --force.",
            )

    def measured_for(self, reference: Checkpoint, moving: Checkpoint) -> Found:
        """The same with these inputs' distances, where a saved alignment was made for others."""
        if self.hashes in (None, (reference.sha256(), moving.sha256())):
            return self
        apart = (
            distance(self.symmetry, reference, moving),
            distance(self.symmetry, reference, moving, self.element),
        )
        return replace(self, distances=apart)

    def notes(self) -> list[str]:
        """What the user should know of a prediction: whose it is, what was kept and why, and remarks."""
        if "network" not in self.details:
            return []
        network, sketches, kept, why = (self.details[key] for key in ("network", "sketches", "kept", "why"))
        remarks = self.details["notes"]
        count = f"{sketches} sketch{'' if sketches == 1 else 'es'}"
        line = f"{network}, {count}; kept {_KEPT.get(str(kept), kept)}: {why}"
        return [line, *(map(str, remarks) if isinstance(remarks, list) else ())]

    def save(self, path: Path, hashes: tuple[str, str], *, force: bool, inputs: tuple[Path, ...]) -> None:
        """Keep the alignment as a file."""
        making = {key: str(value) for key, value in self.making.items()}
        saved = SavedAlignment(self.element, self.symmetry.spec, self.method, self.distances, hashes, making)
        save_alignment(path, saved, force=force, inputs=inputs)


def find_all(
    reference: Checkpoint,
    moving: Sequence[Checkpoint],
    settings: Settings,
    saved: Sequence[Path],
    evidence: Evidence | None = None,
    symmetry: Symmetry | None = None,
) -> list[Found]:
    """An element for every moving input, from `saved` where files are given.

    One aligner serves all, from the same seed each time: what it makes of the reference it keeps.
    `evidence` is a network to run and data, for methods that look at them; `symmetry` is the reference's,
    where it is known.

    Raises:
        UsageError: there are not as many files as moving inputs, or the network of the aligner is unknown.
        MismatchError, NonFiniteError, SpecError: the inputs do not fit each other or the spec.
    """
    if saved and len(saved) != len(moving):
        raise UsageError(
            f"{len(saved)} alignments are given for {len(moving)} moving inputs.",
            "repeat --alignment once for each.",
        )
    for other in moving:
        check_same_layout(reference, other)
    if saved:
        return [_load(path, reference) for path in saved]
    symmetry = symmetry or bind(reference, settings)
    aligner, making = settings.aligner(evidence), settings.making()
    for checkpoint in (reference, *moving):
        check_finite(checkpoint)
    found = [_compute(symmetry, reference, other, aligner, settings) for other in moving]
    return [replace(one, making=making) for one in found]


def _compute(
    symmetry: Symmetry, reference: Checkpoint, moving: Checkpoint, aligner: Aligner, settings: Settings
) -> Found:
    found = aligner(symmetry, reference, moving, rng=settings.rng())
    distances = found.distance_before, found.distance_after
    return Found(
        symmetry, found.element, found.method, distances, details=found.details, seconds=found.seconds
    )


def _load(path: Path, reference: Checkpoint) -> Found:
    saved = load_alignment(path)
    symmetry = Symmetry(saved.spec, shapes_of(reference))
    check_element(saved.element, symmetry)
    return Found(symmetry, saved.element, saved.method, saved.distances, saved.hashes, making=saved.making)
