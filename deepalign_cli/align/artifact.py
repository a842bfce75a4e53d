"""An alignment as a small file: indices, scales, the spec, and the hashes of both inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint, Entry, open_checkpoint, write_safetensors
from deepalign_cli.errors import CheckpointError, MismatchError
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.resolve import SPEC_KEY
from deepalign_cli.symmetry.spec import Spec, format_spec, parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry

FORMAT = "1"
ALIGNMENT_KEY = "deepalign.alignment"
_MAKING = "deepalign.making."
_MAKINGS = ("network.name", "network.sha256", "refine", "sketches")  # others are a stranger's: not handed on
_HINT = "make it with `deepalign align A B --save-alignment FILE`."


@dataclass(frozen=True)
class SavedAlignment:
    """What a file of an alignment holds; `hashes` are the sha256 of the reference and the moving input.

    `making` tells how the method was set: its network, for example.
    """

    element: Element
    spec: Spec
    method: str
    distances: tuple[float, float]
    hashes: tuple[str, str]
    making: Mapping[str, str] = field(default_factory=dict)


def save_alignment(
    path: Path, saved: SavedAlignment, *, force: bool = False, inputs: tuple[Path, ...] = ()
) -> None:
    """Write an alignment as safetensors.

    Raises:
        UsageError: the file exists (without `force`) or is an input.
        OutputError: it cannot be written.
    """
    tensors: dict[str, Tensor] = {f"perm/{g}": p.to(torch.int32) for g, p in saved.element.perm.items()}
    tensors |= {f"scale/{g}": s for g, s in saved.element.scale.items()}
    codes = {torch.int32: "I32", torch.float64: "F64"}
    entries = [Entry(name, codes[t.dtype], tuple(t.shape)) for name, t in tensors.items()]
    metadata = {
        ALIGNMENT_KEY: FORMAT,
        SPEC_KEY: format_spec(saved.spec),
        "deepalign.method": saved.method,
        "deepalign.distance_before": repr(saved.distances[0]),
        "deepalign.distance_after": repr(saved.distances[1]),
        "deepalign.sha256.reference": saved.hashes[0],
        "deepalign.sha256.moving": saved.hashes[1],
        **{_MAKING + key: value for key, value in saved.making.items()},
    }
    write_safetensors(path, entries, tensors.__getitem__, metadata, force=force, inputs=inputs)


def load_alignment(path: Path) -> SavedAlignment:
    """Read an alignment back.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is not an alignment, or a broken one.
    """
    file = open_checkpoint(path)
    if file.metadata.get(ALIGNMENT_KEY) != FORMAT:
        raise CheckpointError(f"'{path}' is not an alignment that this version reads.", _HINT)
    try:
        spec = parse_spec(file.metadata[SPEC_KEY], source=f"the alignment {path.name}")
        distances = (_number(file.metadata, "before"), _number(file.metadata, "after"))
        hashes = (file.metadata["deepalign.sha256.reference"], file.metadata["deepalign.sha256.moving"])
        method = file.metadata["deepalign.method"]
        making = {k: file.metadata[_MAKING + k] for k in _MAKINGS if _MAKING + k in file.metadata}
    except (KeyError, ValueError):
        raise CheckpointError(f"the alignment '{path}' lacks part of its description.", _HINT) from None
    return SavedAlignment(_read_element(path, file), spec, method, distances, hashes, making)


def check_element(element: Element, symmetry: Symmetry) -> None:
    """Check that an element read from a file is one of this symmetry.

    Raises:
        MismatchError: a group is missing, of another size, or not permuted, or its scales are not allowed.
    """
    for group, size in symmetry.sizes.items():
        index = element.perm.get(group)
        if index is None or len(index) != size or not torch.equal(index.sort().values, torch.arange(size)):
            raise MismatchError(f"the alignment does not permute the {size} units of '{group}'.", _HINT)
    if set(element.perm) - set(symmetry.sizes):
        raise MismatchError("the alignment permutes groups that the checkpoints do not have.", _HINT)
    for group, scale in element.scale.items():
        allows = symmetry.kinds[group].allows if group in symmetry.kinds else None
        if allows is None or not allows(scale) or len(scale) != symmetry.sizes[group]:
            raise MismatchError(
                f"the alignment scales the units of '{group}' in a way that its kind forbids.", _HINT
            )


def _read_element(path: Path, file: Checkpoint) -> Element:
    perm, scale = {}, {}
    for name, info in file.infos.items():
        part, _, group = name.partition("/")
        wanted = {"perm": "I32", "scale": "F64"}.get(part)
        if wanted != info.dtype or len(info.shape) != 1:
            raise CheckpointError(f"'{name}' in '{path}' is not part of an alignment.", _HINT)
        if part == "perm":
            perm[group] = file[name].long()
        else:
            scale[group] = file[name].clone()
    return Element(perm, scale)


def _number(metadata: Mapping[str, str], which: str) -> float:
    return float(metadata[f"deepalign.distance_{which}"])
