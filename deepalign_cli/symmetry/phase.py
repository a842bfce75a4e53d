"""A line of a spec's [phases]: what a half turn adds to a bias, and which tensors flip by it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from deepalign_cli.errors import SpecError


@dataclass(frozen=True)
class Phase:
    """Of the units of one bias vector: what a half turn adds to it, and the tensors that flip by it."""

    half_turn: float
    flips: tuple[str, ...]


def parse_phase(value: object, name: str, source: str) -> Phase:
    """The phase of the bias `name` that a value of a spec's TOML says.

    Raises:
        SpecError: it says none.
    """
    match value:
        case {"half_turn": float(half), "flips": [*flips], **others}:
            if 0 < half < math.inf and all(isinstance(one, str) for one in flips) and not others:
                return Phase(half, tuple(flips))
    message = f"the phase of '{name}' in the spec '{source}' is not a half turn and what flips by it."
    raise SpecError(message, 'for sin(z): "fc.bias" = { half_turn = 3.14159, flips = ["out.weight"] }.')


def format_phase(phase: Phase) -> str:
    """The inline table that `parse_phase` reads back."""
    names = ", ".join(json.dumps(name).replace("\x7f", "\\u007f") for name in phase.flips)
    return f"{{ half_turn = {phase.half_turn!r}, flips = [{names}] }}"
