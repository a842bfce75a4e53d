"""What a spec rests on: how it was obtained, and so how far it can be trusted."""

from __future__ import annotations

from enum import StrEnum


class Basis(StrEnum):
    """How a spec was obtained."""

    GIVEN = "given"
    TRACED = "traced and checked"
    TEMPLATE = "template"
    READ = "read from names and shapes"

    @property
    def knows_marks(self) -> bool:
        """Whether marks come from a network's operations, so that each says exactly what it does."""
        return self in (Basis.TRACED, Basis.TEMPLATE)
