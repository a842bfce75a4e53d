"""Transformers whose heads stay far apart: what the default leaves to rotations, and what others say."""

from __future__ import annotations

from dataclasses import replace

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.aligners.methods import DEFAULT, ROTATIONS
from deepalign_cli.operations.settings import NAIVE
from deepalign_cli.symmetry.symmetry import Symmetry

QUICK_STEPS = 100  # of gradients, where nobody asked for rotations
_FAR = 0.5  # of the distance before: less is left of networks that are nearly copies of one another
HANDED_OVER = "heads and residual streams of these transformers turn, besides moving: aligned by -m rotations"
STILL = "nothing may move in these networks: B stays as it is (`deepalign trace --model` says why)"
MAY_TURN = "heads and residual streams of transformers may turn, besides moving: -m rotations"


def heads_are_far(alignment: Alignment) -> bool:
    """Whether a transformer's heads are there, and B is far from A still: not nearly a copy of it."""
    return has_heads(alignment.symmetry) and alignment.distance_after > _FAR * alignment.distance_before


def has_heads(symmetry: Symmetry) -> bool:
    """Whether a transformer's heads may move."""
    return any(group.rpartition(".")[2] == "heads" for group in symmetry.sizes)


def left_out(method: str, alignment: Alignment) -> tuple[str, ...]:
    """What a method does not move that its user may expect to."""
    if method != NAIVE and not alignment.symmetry.sizes:
        return (STILL,)
    return (MAY_TURN,) if method not in (NAIVE, DEFAULT, ROTATIONS) and heads_are_far(alignment) else ()


def with_note(alignment: Alignment, *more: str) -> Alignment:
    """The same alignment with more notes, if there are any."""
    notes = alignment.details.get("notes")
    listed = [*(notes if isinstance(notes, list | tuple) else []), *more]
    if not more:
        return alignment
    return replace(alignment, details={**alignment.details, "notes": listed})
