"""Transformers whose heads stay far apart: what the default leaves to rotations, and what others say."""

from __future__ import annotations

from dataclasses import replace

from deepalign_cli.aligners.alignment import Alignment

QUICK_STEPS = 100  # of gradients, where nobody asked for rotations
_FAR = 0.5  # of the distance before: less is left of networks that are nearly copies of one another
HANDED_OVER = "heads and residual streams of these transformers turn, besides moving: aligned by -m rotations"
MAY_TURN = "heads and residual streams of transformers may turn, besides moving: -m rotations"


def heads_are_far(alignment: Alignment) -> bool:
    """Whether a transformer's heads are there, and B is far from A still: not nearly a copy of it."""
    heads = any(group.rpartition(".")[2] == "heads" for group in alignment.symmetry.sizes)
    return heads and alignment.distance_after > _FAR * alignment.distance_before


def with_note(alignment: Alignment, note: str) -> Alignment:
    """The same alignment with one more note."""
    notes = alignment.details.get("notes")
    listed = [*(notes if isinstance(notes, list | tuple) else []), note]
    return replace(alignment, details={**alignment.details, "notes": listed})
