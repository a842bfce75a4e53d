"""What a spec rests on: how it was obtained, and so how far it can be trusted."""

from __future__ import annotations

from enum import StrEnum


class Basis(StrEnum):
    """How a spec was obtained."""

    GIVEN = "given"
    TRACED = "traced and checked"
    TEMPLATE = "template"
    READ = "read from names and shapes"
