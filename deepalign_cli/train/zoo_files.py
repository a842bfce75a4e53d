"""A family of a zoo as it is stored: the stacked weights of some networks, their design and their task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jaxtyping import Float, Int64
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint, write_tensors
from deepalign_cli.errors import CheckpointError, UsageError
from deepalign_cli.models.designs import Design, config_of, design_of
from deepalign_cli.train.tasks import Task

FORMAT = "1"
ZOO_KEY = "deepalign.zoo"
_HINT = "`deepalign zoo` writes these files."


@dataclass(frozen=True)
class Family:
    """Some trained networks of one design on one task, stacked along the first axis.

    `member` says which networks belong together (the image of a field; else 0), `score` is the test
    accuracy (for a field, minus its mean squared error). `common` is the share of the steps that their
    common parent was trained for: where it is not 0, unit k of one network is by origin unit k of all.
    """

    design: Design
    task: Task
    weights: Mapping[str, Float[Tensor, "networks ..."]]
    score: Float[Tensor, " networks"]
    member: Int64[Tensor, " networks"]
    common: float = 0.0

    def network(self, index: int) -> dict[str, Tensor]:
        """The weights of one network."""
        return {name: w[index] for name, w in self.weights.items()}


def save_family(path: Path, family: Family, *, force: bool = False) -> None:
    """Write a family as safetensors, with `force` in the place of a file that is there.

    Raises:
        OutputError: it cannot be written. UsageError: the file is there.
    """
    tensors = {f"weights/{name}": w for name, w in family.weights.items()}
    tensors |= {"score": family.score, "member": family.member}
    subject = {"design": json.dumps(config_of(family.design)), "task": json.dumps(asdict(family.task))}
    subject |= {"common": str(family.common)} if family.common else {}
    write_tensors(path, tensors, {ZOO_KEY: FORMAT, **subject}, force=force)


def load_family(path: Path) -> Family:
    """Read a family back.

    Raises:
        UsageError: there is no such file. CheckpointError: it is not a zoo's, or of another format.
    """
    file = open_family(path)
    design, task = subject_of(file, path)
    weights = {n.removeprefix("weights/"): file[n].clone() for n in file if n.startswith("weights/")}
    try:
        common = float(file.metadata.get("common", 0))
    except ValueError as error:
        raise CheckpointError(f"'{path}' is not a complete zoo file: {error}.", _HINT) from None
    return Family(design, task, weights, file["score"].clone(), file["member"].clone(), common)


def open_family(path: Path) -> Checkpoint:
    """A family's file, checked to be one.

    Raises:
        UsageError: there is no such file. CheckpointError: it is not a zoo's, or of another format.
    """
    file = open_checkpoint(path)
    if file.metadata.get(ZOO_KEY) != FORMAT:
        raise CheckpointError(f"'{path}' is not a zoo file that this version reads.", _HINT)
    for name in ("score", "member"):
        if name not in file:
            raise CheckpointError(f"'{path}' is not a complete zoo file: {name} is missing.", _HINT)
    return file


def subject_of(file: Checkpoint, path: Path) -> tuple[Design, Task]:
    """The design and the task of a family's file. Raises CheckpointError where they are missing or broken."""
    try:
        design, task = json.loads(file.metadata["design"]), json.loads(file.metadata["task"])
        return design_of(design), Task(**task)
    except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
        raise CheckpointError(f"'{path}' is not a complete zoo file: {error}.", _HINT) from None
