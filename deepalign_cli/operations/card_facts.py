"""What the card of a merged network tells, gathered from its metadata and from what was measured."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.hub import is_reference, parse_reference
from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.operations.card import Facts, Ingredient
from deepalign_cli.operations.job import Report
from deepalign_cli.operations.merge_cost import Cost

_FOLDERS = re.compile(r"(?<![\w.:/-])/(?:[^/\s'\"]+/)+")
# Of the metadata, what the card says elsewhere or not at all.
_UNTOLD = ("method", "command", "weights", "spec", "tied", "design", "preparation", "input.", "sha256.")


def facts_for(
    title: str, options: Sequence[str], report: Report, cost: Cost | None, reference: Checkpoint,
    inputs: Sequence[Path], pictures: Sequence[str],
) -> Facts:  # fmt: skip
    """The facts of a merge; `options` follow the inputs in the command that makes it again."""
    told = {
        key.removeprefix("deepalign."): value
        for key, value in report.metadata.items()
        if key.startswith("deepalign.")
    }
    ingredients = _ingredients(told, report)
    base = COMBINERS.find(told["combine"]).base
    names = [one.name for one in ingredients]
    units = {key: sum(group[key] for group in report.groups.values()) for key in ("moved", "size")}
    command = ["deepalign", "merge", *(names[1:] if base else names), *(["--base", names[0]] if base else [])]
    return Facts(
        title=title,
        inputs=ingredients,
        method=report.method,
        combiner=told["combine"],
        making={key: value for key, value in told.items() if not key.startswith(_UNTOLD)},
        command=[*command, *options],
        library="transformers" if isinstance(reference.config.get("model_type"), str) else "pytorch",
        moved=(units["moved"], units["size"]),
        notes=_without_folders(report.notes, inputs),
        networks=cost.networks if cost else (),
        curves=cost.curves if cost else (),
        picture=pictures[0] if pictures else None,
    )


def _ingredients(told: Mapping[str, str], report: Report) -> list[Ingredient]:
    shares = json.loads(told["weights"])
    base = [None] if COMBINERS.find(told["combine"]).base else []
    ingredients = []
    for i, share in enumerate([*base, *shares]):
        name = told[f"input.{i}"]
        repository = parse_reference(name).repo if is_reference(name) else None
        distances = report.distances[i - 1] if i else None
        ingredients.append(Ingredient(name, told[f"sha256.{i}"], share, repository, distances))
    return ingredients


def _without_folders(notes: Sequence[str], inputs: Sequence[Path]) -> tuple[str, ...]:
    """The notes without where on this machine files lie, which a card need not tell the world."""
    for source in inputs:
        if source.is_absolute():
            notes = [note.replace(f"{source.parent}{os.sep}", "") for note in notes]
    return tuple(_FOLDERS.sub("", note) for note in notes)
