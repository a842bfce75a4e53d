"""The log of a run: one JSON object a line, cut back to the step that a run is resumed from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepalign_cli.checkpoint.atomic import write_bytes


def append(log: Path, line: Mapping[str, Any]) -> None:
    """Add a line."""
    with log.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None where there is none to tell."""
    return finite(sum(values) / len(values)) if values else None


def finite(x: float) -> float | None:
    """JSON has no word for infinity."""
    return x if math.isfinite(x) else None


def forget_after(log: Path, step: int) -> None:
    """Drop a log's lines after `step`: those of steps that will be taken again, and what a kill cut off."""
    if not log.exists():
        return
    earlier = []
    for line in log.read_bytes().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break
        earlier.append(line)
    write_bytes(log, b"".join(earlier), force=True)
