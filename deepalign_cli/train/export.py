"""Networks of a zoo as checkpoints of their own, which say what computes with them and what they read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deepalign_cli.checkpoint import open_checkpoint, write_tensors
from deepalign_cli.checkpoint.keys import DESIGN_KEY, PREPARATION_KEY
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.errors import UsageError
from deepalign_cli.models.designed import design_metadata
from deepalign_cli.models.designs import Design
from deepalign_cli.symmetry.stored_spec import spec_metadata
from deepalign_cli.symmetry.symmetry import Weights
from deepalign_cli.train.known import is_traced, traced_spec
from deepalign_cli.train.tasks import Task, load_examples
from deepalign_cli.train.zoo_files import Family, load_family


def export_zoo(zoo: Path, families: Iterable[str], data: Path) -> int:
    """Write the networks of some families of a zoo to `zoo/FAMILY/00.safetensors`, ...; how many there are.

    `data` is the folder that they were trained on. Networks that were exported before are written again.

    Raises:
        UsageError: the data cannot be used, or a file that is there is no network of the family.
        CheckpointError: a family's file is broken. OutputError: a file cannot be written.
    """
    count, known = 0, dict[Task, Preparation | None]()
    for name in families:
        family = load_family(zoo / f"{name}.safetensors")
        if family.task not in known:
            known[family.task] = preparation_of(family.task, data)
        count += export_family(zoo / name, family, known[family.task])
    return count


def export_family(folder: Path, family: Family, preparation: Preparation | None) -> int:
    """Write every network of a family to a file of its own in `folder`; how many there are.

    Raises:
        UsageError: a file that is there is no network of the family. OutputError: a file cannot be written.
    """
    count = len(family.score)
    paths = [folder / f"{index:0{max(2, len(str(count - 1)))}}.safetensors" for index in range(count)]
    for path in paths:
        _check_replaceable(path, family.design)
    folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(paths):
        export_network(path, family.design, family.network(index), preparation, force=True)
    return count


def export_network(
    path: Path, design: Design, weights: Weights, preparation: Preparation | None, *, force: bool = False
) -> None:
    """Write a design's weights as a checkpoint that says what computes with them, and what it reads.

    Where names and shapes do not tell what may move, it says that, too.

    Raises:
        UsageError: the file is there and `force` is not given. OutputError: it cannot be written.
    """
    metadata = {"format": "pt", **design_metadata(design)}
    if is_traced(design):
        metadata |= spec_metadata(traced_spec(design))
    if preparation is not None:
        metadata[PREPARATION_KEY] = preparation.to_json()
    write_tensors(path, weights, metadata, force=force)


def preparation_of(task: Task, data: Path) -> Preparation | None:
    """What is made of raw images for a task's networks; None for coordinates and text.

    Raises:
        UsageError: the data cannot be used.
    """
    if task.field or task.context:
        return None
    examples = load_examples(task, data)
    return Preparation(task.side, task.grey, (examples.mean,), (examples.deviation,))


def _check_replaceable(path: Path, design: Design) -> None:
    """Raise UsageError, or CheckpointError, if a file is in the way that is not a network of the design."""
    expected = design_metadata(design)[DESIGN_KEY]
    if path.exists() and open_checkpoint(path).metadata.get(DESIGN_KEY) != expected:
        raise UsageError(
            f"'{path}' is not a network of this family.",
            "delete it to export the family again, or give another --out.",
        )
