"""What the card of a merged network tells, gathered from its metadata and from what was measured."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.hub import is_reference, parse_reference
from deepalign_cli.operations.card import Facts, Ingredient
from deepalign_cli.operations.job import Report
from deepalign_cli.operations.merge_cost import Cost
from deepalign_cli.symmetry.symmetry import Symmetry

_FOLDERS = re.compile(r"(?<![\w.:/-])/(?:[^/\s'\"]+/)+")
_CARRIED = "What tuned A has learned since base A, times {}, added to base B."
# Entries of the metadata that the card has elsewhere or leaves out.
_ELSEWHERE = (
    "method",
    "command",
    "weights",
    "base",
    "spec",
    "tied",
    "design",
    "preparation",
    "recipe",
    "input.",
    "sha256.",
)


def facts_for(
    title: str, options: Sequence[str] | None, report: Report, cost: Cost | None, reference: Checkpoint,
    inputs: Sequence[Path], pictures: Sequence[str] = (),
) -> Facts:  # fmt: skip
    """The facts of a merge or a transport; `options` follow the inputs in the command that makes it again.

    Without `options` no command made it.
    """
    prefix = "deepalign."
    metadata = {k.removeprefix(prefix): v for k, v in report.metadata.items() if k.startswith(prefix)}
    is_merge = metadata["command"] == "merge"
    base = "base" in metadata
    ingredients = _ingredients(metadata, report, base) if is_merge else _bases_and_tuned(metadata, report)
    names = [one.name for one in ingredients]
    units = {key: sum(group[key] for group in report.groups.values()) for key in ("moved", "size")}
    command = ["deepalign", "merge", *(names[1:] if base else names), *(["--base", names[0]] if base else [])]
    if not is_merge:
        command = ["deepalign", "transport", names[1], names[2], names[0]]
    return Facts(
        title=title,
        inputs=ingredients,
        method=report.method,
        combiner=metadata.get("combine", ""),
        sentence="" if is_merge else _CARRIED.format(metadata["scale"]),
        making={key: value for key, value in metadata.items() if not key.startswith(_ELSEWHERE)},
        command=[] if options is None else [*command, *options],
        library="transformers" if isinstance(reference.config.get("model_type"), str) else "pytorch",
        moved=(units["moved"], units["size"]),
        turned=_turned(report.alignments[0].symmetry),
        basis=metadata["spec.basis"],
        notes=_without_folders(report.notes, inputs),
        networks=cost.networks if cost else (),
        curves=cost.curves if cost else (),
        picture=pictures[0] if pictures else None,
        recipe=metadata.get("recipe", ""),
    )


def _ingredients(metadata: Mapping[str, str], report: Report, base: bool) -> list[Ingredient]:
    weights = json.loads(metadata["weights"]) if "weights" in metadata else []
    shares = dict(enumerate(weights, int(base)))
    ingredients = []
    for i in range(1 + len(report.distances)):
        name = metadata[f"input.{i}"]
        repository = parse_reference(name).repo if is_reference(name) else None
        distances = report.distances[i - 1] if i else None
        hashed, is_base = metadata[f"sha256.{i}"], base and i == 0
        ingredients.append(Ingredient(name, hashed, shares.get(i), repository, distances, is_base))
    return ingredients


def _bases_and_tuned(metadata: Mapping[str, str], report: Report) -> list[Ingredient]:
    """The inputs of a transport, that which the output is like first."""
    ingredients = []
    for i, role in enumerate(("base B", "base A", "tuned A")):
        name = metadata[f"input.{i}"]
        repository = parse_reference(name).repo if is_reference(name) else None
        distances = report.distances[0] if i == 1 else None
        ingredients.append(Ingredient(name, metadata[f"sha256.{i}"], None, repository, distances, role=role))
    return ingredients


def _turned(symmetry: Symmetry) -> str:
    """The groups that were turned by rotations, by what they are, and how many there are of each."""
    kinds = Counter(
        f"{symmetry.kinds[group]}{' in heads' if outer else ', the stream'}"
        for group, outer in symmetry.within.items()
    )
    return "; ".join(f"{count} {what}" for what, count in kinds.items())


def _without_folders(notes: Sequence[str], inputs: Sequence[Path]) -> tuple[str, ...]:
    """The notes without the folders of this machine, which a card need not publish."""
    for source in inputs:
        if source.is_absolute():
            notes = [note.replace(f"{source.parent}{os.sep}", "") for note in notes]
    return tuple(_FOLDERS.sub("", note) for note in notes)
