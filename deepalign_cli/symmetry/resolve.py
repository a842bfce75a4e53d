"""Finding the spec of a checkpoint: given, stored in its metadata, or read off names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.errors import MismatchError, SpecError, UsageError
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.draft import HOW_A_SPEC_HELPS
from deepalign_cli.symmetry.families import FAMILIES
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Activation, Spec, parse_spec, read_spec

SPEC_KEY = "deepalign.spec"


def resolve_spec(
    checkpoint: Checkpoint,
    given: Path | Spec | None = None,
    activation: Activation | None = None,
    heads: int | None = None,
) -> Spec:
    """The spec of a checkpoint.

    The first that there is of: the one `given` or in a file, the spec in the metadata, a known family.
    `activation` sets the kinds of the groups that carry marks; without it the permutations alone move.

    Raises:
        SpecError: none fits.
        AmbiguousError: two readings fit.
        UsageError: `heads` is given where no family asks for it.
    """
    spec = _given(checkpoint, given) or _family(checkpoint, heads)
    _check_tied(checkpoint, spec)
    return spec.with_activation(activation)


def blank_spec(checkpoint: Checkpoint) -> Spec:
    """A skeleton in which every axis is labelled: nothing moves until names replace numbers."""
    axes = {
        name: tuple(Axis(((Atom(size=extent),),)) for extent in info.shape)
        for name, info in checkpoint.infos.items()
        if info.shape and 0 not in info.shape
    }
    return Spec(axes, source="a skeleton: put a group's name wherever units move together")


def check_same_layout(reference: Checkpoint, moving: Checkpoint) -> None:
    """Check that two checkpoints hold tensors of the same names and shapes.

    Raises:
        MismatchError: they do not; the tensors are listed.
    """
    missing = [n for n in reference.infos if n not in moving.infos]
    extra = [n for n in moving.infos if n not in reference.infos]
    if missing or extra:
        parts = [f"'{moving.path}' lacks {_listed(missing)}"] if missing else []
        parts += [f"'{reference.path}' lacks {_listed(extra)}"] if extra else []
        raise MismatchError(f"{' and '.join(parts)}.", "both checkpoints must be of the same architecture.")
    for name, info in reference.infos.items():
        other = moving.infos[name]
        if info.shape != other.shape or info.is_float != other.is_float:
            raise MismatchError(
                f"'{name}' is {info.dtype} {list(info.shape)} in '{reference.path}' "
                f"but '{name}' is {other.dtype} {list(other.shape)} in '{moving.path}'.",
                "both checkpoints must be of the same architecture.",
            )


def shapes_of(checkpoint: Checkpoint) -> Mapping[str, tuple[int, ...]]:
    """The shapes by name, in the file's order."""
    return {name: info.shape for name, info in checkpoint.infos.items()}


def _given(checkpoint: Checkpoint, given: Path | Spec | None) -> Spec | None:
    if given is not None:
        return _without_prefix(given if isinstance(given, Spec) else read_spec(given), checkpoint)
    stored = checkpoint.metadata.get(SPEC_KEY)
    return parse_spec(stored, source=f"the metadata of {checkpoint.path.name}") if stored else None


def _without_prefix(spec: Spec, checkpoint: Checkpoint) -> Spec:
    """Names in a spec may be written as they stand in the file."""
    stored = {info.stored_name: name for name, info in checkpoint.infos.items()}
    return replace(
        spec,
        axes={
            name if name in checkpoint.infos else stored.get(name, name): a for name, a in spec.axes.items()
        },
    )


def _family(checkpoint: Checkpoint, heads: int | None) -> Spec:
    layout = Layout(shapes_of(checkpoint), heads or _configured_heads(checkpoint), checkpoint.ordered)
    for match in FAMILIES:
        spec = match(layout)
        if spec is not None:
            if heads is not None and not any("heads" in g for g in spec.groups()):
                raise UsageError(f"'{checkpoint.path}' has no attention heads.", "leave --heads out.")
            return spec
    raise SpecError(f"the architecture of '{checkpoint.path}' is not known.", HOW_A_SPEC_HELPS)


def _configured_heads(checkpoint: Checkpoint) -> int | None:
    heads = checkpoint.config.get("num_attention_heads")
    return heads if isinstance(heads, int) and not isinstance(heads, bool) and heads > 0 else None


def _check_tied(checkpoint: Checkpoint, spec: Spec) -> None:
    for name, info in checkpoint.infos.items():
        first = info.tied_to
        if first and spec.axes.get(name) != spec.axes.get(first):
            raise SpecError(
                f"'{name}' and '{first}' share their memory but the spec moves them differently.",
                "give tied tensors the same axes.",
            )


def _listed(names: list[str], most: int = 5) -> str:
    shown = ", ".join(f"'{n}'" for n in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")
