"""An alignment as a small file: indices, scales, the spec, and the hashes of both inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from deepalign_cli.aligners.alignment import Alignment, distance
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.checkpoint import Checkpoint, Entry, open_checkpoint, write_safetensors
from deepalign_cli.errors import CheckpointError, MismatchError
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.stored_spec import spec_metadata, stored_spec
from deepalign_cli.symmetry.symmetry import Shapes, Symmetry
from deepalign_cli.symmetry.turns import Turn, is_rotation

FORMAT = "1"
ALIGNMENT_KEY = "deepalign.alignment"
_MAKING = "deepalign.making."
_HINT = "make it with `deepalign align A B --save-alignment FILE`."


def save_alignment(
    path: Path, alignment: Alignment, hashes: tuple[str, str], *, force: bool = False,
    inputs: tuple[Path, ...] = (),
) -> None:  # fmt: skip
    """Write an alignment as safetensors; `hashes` are the sha256 of the reference and the moving input.

    Raises:
        UsageError: the file exists (without `force`) or is an input.
        OutputError: it cannot be written.
    """
    element = alignment.element
    tensors: dict[str, Tensor] = {f"perm/{g}": p.to(torch.int32) for g, p in element.perm.items()}
    tensors |= {f"scale/{g}": s for g, s in element.scale.items()}
    tensors |= {f"turn/{g}": one.matrix.contiguous() for g, one in element.turn.items()}
    tensors |= {f"enter/{name}": gain for name, gain in element.enter.items()}
    tensors |= {f"leave/{name}": gain for name, gain in element.leave.items()}
    tensors |= {f"shift/{g}": turns for g, turns in element.shift.items()}
    codes = {torch.int32: "I32", torch.float64: "F64"}
    entries = [Entry(name, codes[t.dtype], tuple(t.shape)) for name, t in tensors.items()]
    metadata = {
        ALIGNMENT_KEY: FORMAT,
        **spec_metadata(alignment.symmetry.spec),
        "deepalign.method": alignment.method,
        "deepalign.distance_before": repr(alignment.distance_before),
        "deepalign.distance_after": repr(alignment.distance_after),
        "deepalign.sha256.reference": hashes[0],
        "deepalign.sha256.moving": hashes[1],
        **{_MAKING + key: str(value) for key, value in alignment.making.items()},
    }
    write_safetensors(path, entries, tensors.__getitem__, metadata, force=force, inputs=inputs)


def load_alignment(
    path: Path, shapes: Shapes, respelt: Callable[[Spec, Shapes], Spec] = lambda spec, _: spec
) -> Alignment:
    """Read an alignment back, for networks whose tensors have these shapes.

    `respelt` brings its spec to these shapes where they may differ from those that it was found for.

    Raises:
        UsageError: there is no such file.
        CheckpointError: it is not an alignment, or a broken one.
        MismatchError, SpecError: it is not one of such networks.
    """
    file = open_checkpoint(path)
    if file.metadata.get(ALIGNMENT_KEY) != FORMAT:
        raise CheckpointError(f"'{path}' is not an alignment that this version reads.", _HINT)
    try:
        spec = stored_spec(file.metadata, f"the alignment {path.name}")
        distances = (_number(file.metadata, "before"), _number(file.metadata, "after"))
        hashes = (file.metadata["deepalign.sha256.reference"], file.metadata["deepalign.sha256.moving"])
        method = file.metadata["deepalign.method"]
        if spec is None:
            raise KeyError
    except (KeyError, ValueError):
        raise CheckpointError(f"the alignment '{path}' lacks part of its description.", _HINT) from None
    making = {key: file.metadata[_MAKING + key] for key in _makings() if _MAKING + key in file.metadata}
    symmetry = Symmetry(respelt(spec, shapes), shapes)
    element = _read_element(path, file, symmetry)
    check_element(element, symmetry)
    return Alignment(symmetry, element, method, 0.0, *distances, making=making, hashes=hashes)


def _makings() -> set[str]:
    """What may be told of how a method was set; any other key is a stranger's and not handed on."""
    options = {parameter.name for method in METHODS.values() for parameter in method.parameters}
    return options | {"network.name", "network.sha256"}


def check_element(element: Element, symmetry: Symmetry) -> None:
    """Check that an element read from a file is one of this symmetry.

    Raises:
        MismatchError: a group is missing, of another size, or not permuted, or its scales, rotations or
            gains are not allowed.
    """
    _check_turns(element, symmetry)
    placed = {group: size for group, size in symmetry.sizes.items() if group not in symmetry.within}
    for group, size in placed.items():
        index = element.perm.get(group)
        if index is None or len(index) != size or not torch.equal(index.sort().values, torch.arange(size)):
            raise MismatchError(f"the alignment does not permute the {size} units of '{group}'.", _HINT)
    if set(element.perm) - set(placed):
        raise MismatchError("the alignment permutes groups that the checkpoints do not have.", _HINT)
    for group, scale in element.scale.items():
        allows = symmetry.kinds[group].allows if group in symmetry.kinds else None
        if allows is None or not allows(scale) or len(scale) != symmetry.sizes[group]:
            raise MismatchError(
                f"the alignment scales the units of '{group}' in a way that its kind forbids.", _HINT
            )
    for group, turns in element.shift.items():
        if not symmetry.phases.allows(group, turns, symmetry.sizes.get(group, 0)):
            raise MismatchError(f"the alignment moves phases that '{group}' does not have.", _HINT)


def _check_turns(element: Element, symmetry: Symmetry) -> None:
    for group, outer in symmetry.within.items():
        turn, size = element.turn.get(group), symmetry.sizes[group]
        shape = (symmetry.sizes[outer] if outer else 1, size, size)
        wrong = turn is None or tuple(turn.matrix.shape) != shape
        if wrong or not is_rotation(symmetry.kinds[group].nearest, turn.matrix):  # type: ignore[union-attr]
            raise MismatchError(
                f"the alignment does not turn the units of '{group}' as its kind wants.", _HINT
            )
    if set(element.turn) - set(symmetry.within):
        raise MismatchError("the alignment turns groups that may not turn.", _HINT)
    for gains in (element.enter, element.leave):
        sizes = {name: tuple(gain.shape) for name, gain in gains.items()}
        wanted = {name: symmetry.shapes[name] for name in symmetry.spec.gains}
        if sizes != wanted or not all(bool((g.isfinite() & (g != 0)).all()) for g in gains.values()):
            raise MismatchError("the alignment's gains are not those of the checkpoints.", _HINT)


def _read_element(path: Path, file: Checkpoint, symmetry: Symmetry) -> Element:
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in _PARTS}
    for name, info in file.infos.items():
        part, _, group = name.partition("/")
        if _PARTS.get(part) != (info.dtype, len(info.shape)):
            raise CheckpointError(f"'{name}' in '{path}' is not part of an alignment.", _HINT)
        parts[part][group] = file[name].long() if part == "perm" else file[name].clone()
    turn = {group: Turn(q, symmetry.within.get(group, "")) for group, q in parts["turn"].items()}
    return Element(parts["perm"], parts["scale"], turn, parts["enter"], parts["leave"], parts["shift"])


# What an alignment's file holds of each kind: the type, and how many axes.
_PARTS = {
    "perm": ("I32", 1),
    "scale": ("F64", 1),
    "turn": ("F64", 3),
    "enter": ("F64", 1),
    "leave": ("F64", 1),
    "shift": ("F64", 1),
}


def _number(metadata: Mapping[str, str], which: str) -> float:
    return float(metadata[f"deepalign.distance_{which}"])


def check_hashes(alignment: Alignment, reference: str, moving: str) -> None:
    """Check that a saved alignment belongs to the inputs of these hashes.

    Raises:
        MismatchError: it was made for others.
    """
    if alignment.hashes not in (None, (reference, moving)):
        which = "reference" if alignment.hashes and alignment.hashes[0] != reference else "moving input"
        problem = f"the alignment was made for another {which}: the sha256 differs."
        raise MismatchError(problem, "align these inputs again, or use it anyway with --force.")


def measured_for(alignment: Alignment, reference: Checkpoint, moving: Checkpoint) -> Alignment:
    """The same with these inputs' distances, where a saved alignment was made for others."""
    if alignment.hashes in (None, (reference.sha256(), moving.sha256())):
        return alignment
    symmetry, element = alignment.symmetry, alignment.element
    before, after = (distance(symmetry, reference, moving, g) for g in (None, element))
    return replace(alignment, distance_before=before, distance_after=after)
