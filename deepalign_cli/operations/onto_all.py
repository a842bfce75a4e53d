"""All inputs aligned at once, whatever their order: the hashes of the files order the work."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from deepalign_cli.aligners.alignment import Aligner, Alignment, distance
from deepalign_cli.aligners.methods import Onto
from deepalign_cli.aligners.running_mean import onto_mean
from deepalign_cli.aligners.universe import universal
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.operations.one_type import in_one_type
from deepalign_cli.operations.settings import Settings
from deepalign_cli.progress import SILENT, Progress
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights

_STARTING = 0.6  # of the work


def aligned_at_once(
    symmetry: Symmetry, inputs: Sequence[Checkpoint], aligner: Aligner, settings: Settings,
    making: Mapping[str, object], progress: Progress = SILENT,
) -> list[Alignment]:  # fmt: skip
    """An alignment onto the first input for each of the others, by what all have in common.

    Networks move onto their running mean, or onto one another, as `onto` of the settings says. They begin
    from a method's alignments onto the input of the smallest hash, and are visited in the order of the
    hashes, so that the order in which they are given changes the first's frame and nothing else.
    """
    started = time.perf_counter()
    order, weights = by_hashes(inputs), in_one_type(inputs)
    pivot, *others = (weights[place] for place in order)
    stage = progress.part(_STARTING)
    starts = [
        aligner(symmetry, pivot, one, rng=settings.rng(), progress=stage.part(1 / len(others)))
        for one in others
    ]
    networks, begin = [pivot, *others], [symmetry.identity(), *(one.element for one in starts)]
    if settings.onto is Onto.MEAN:
        elements, objective = _onto_mean(symmetry, networks, begin, aligner, settings, progress)
    else:
        elements, objective = universal(symmetry, networks, begin, settings.rng(), progress)
    onto_pivot = dict(zip(order, elements, strict=True))
    back, seconds = onto_pivot[0].inverse(), (time.perf_counter() - started) / len(others)
    alignments = []
    for place, one in enumerate(inputs[1:], 1):
        g = back @ onto_pivot[place]
        before, after = (distance(symmetry, inputs[0], one, element) for element in (None, g))
        alignments.append(
            replace(
                starts[0], element=g, seconds=seconds, distance_before=before, distance_after=after,
                objective=tuple(objective), details={"rounds": len(objective) - 1},
                making={**making, "onto": str(settings.onto)},
            )
        )  # fmt: skip
    return alignments


def _onto_mean(
    symmetry: Symmetry, networks: Sequence[Weights], begin: Sequence[Element], aligner: Aligner,
    settings: Settings, progress: Progress,
) -> tuple[list[Element], list[float]]:  # fmt: skip
    def match(reference: Weights, moving: Weights, stage: Progress) -> Element:
        return aligner(symmetry, reference, moving, rng=settings.rng(), progress=stage).element

    stage = progress.part(1.0, "aligning to the running mean")
    return onto_mean(symmetry, networks, begin, match, stage)


def by_hashes(inputs: Sequence[Checkpoint], *, base: bool = False) -> list[int]:
    """The places of the inputs in the order of their hashes; a base stays the first."""
    rest = sorted(range(base, len(inputs)), key=lambda place: inputs[place].sha256())
    return [0] * base + rest
