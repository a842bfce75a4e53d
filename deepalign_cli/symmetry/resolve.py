"""Finding the spec of a checkpoint: given, stored in its metadata, or read off names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from deepalign_cli.checkpoint import Checkpoint, TensorInfo
from deepalign_cli.errors import MismatchError, SpecError, UsageError, listed
from deepalign_cli.symmetry import known_models
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.configured_heads import check_asked_heads, check_same_heads
from deepalign_cli.symmetry.configured_ties import check_same_ties
from deepalign_cli.symmetry.dialects import naming_hint
from deepalign_cli.symmetry.draft import misfit
from deepalign_cli.symmetry.families import first_match
from deepalign_cli.symmetry.kinds import Kind
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.sizes import solve_sizes
from deepalign_cli.symmetry.spec import Activation, Spec, read_spec
from deepalign_cli.symmetry.stored_spec import stored_spec
from deepalign_cli.symmetry.tensor_names import place_of

_BARE_NORMS = (
    "no norm without tensors (InstanceNorm or LayerNorm without affine, F.normalize) is assumed behind units "
    "that are rescaled"
)
_SHOWN = 5
Ask = Callable[[], Spec | None]


def no_network() -> Spec | None:
    """There is no network to ask."""
    return None


def resolve_spec(
    checkpoint: Checkpoint,
    given: Path | Spec | None = None,
    activation: Activation | None = None,
    heads: int | None = None,
    kinds: Collection[Kind] = (),
    ask: Ask = no_network,
) -> Spec:
    """The spec of a checkpoint.

    The first that there is of: the one `given` or in a file, the spec in the metadata, that which the
    network tells when it is traced (`ask`), a template of a known network, a known family.
    `activation` and `kinds` say what else moves where the spec's marks allow it; without them and without
    kinds in the spec the permutations alone do.

    Raises:
        SpecError: none fits.
        AmbiguousError: two readings fit.
        UsageError: `heads` is given where no template and no family asks for it, does not fit, or is not
            what the configuration says.
    """
    check_asked_heads(checkpoint, heads)
    spec = _given(checkpoint, given)
    if spec and spec.mixing and given is None:
        spec = ask() or spec  # a file that was turned says more than methods that do not turn can use
    spec = spec or ask() or known_models.match(checkpoint, heads)
    spec = _still(spec or _family(checkpoint, heads), checkpoint)
    _check_tied(checkpoint, spec)
    spec = spec.with_activation(activation, kinds)
    if spec.basis is Basis.READ and any(kind.stretches for kind in spec.kinds.values()):
        return replace(spec, assumptions=(*spec.assumptions, _BARE_NORMS))
    return spec


def turning_spec(
    checkpoint: Checkpoint, given: Path | Spec | None = None, ask: Ask = no_network, heads: int | None = None
) -> Spec:
    """The spec of a checkpoint in which groups turn.

    The first that there is of: the one given, in the metadata, told by the network (`ask`), of a template.

    Raises:
        SpecError: nothing says what may turn. UsageError: `heads` does not fit the shapes, or is not what
            the configuration says.
    """
    check_asked_heads(checkpoint, heads)
    spec = _given(checkpoint, given)
    if spec is None or not (spec.mixing or given):
        spec = ask() or known_models.match(checkpoint, heads, turns=True) or spec
    if spec is None:
        raise SpecError(
            f"nothing says what may turn in '{checkpoint.path}'.",
            "name the network, --model FILE.py:FACTORY, or give a transformers folder with its config.json.",
        )
    _check_tied(checkpoint, spec)
    return spec


def _still(spec: Spec, checkpoint: Checkpoint) -> Spec:
    """The spec for methods that turn nothing: groups that could only turn stay in place."""
    if not spec.mixing:
        return spec
    sizes = solve_sizes(spec, shapes_of(checkpoint))
    line = f"{listed(sorted(spec.mixing), _SHOWN)} could only turn, by -m rotations"
    held = spec.holding({group: sizes[group] for group in spec.mixing})
    return replace(held, stays=(*held.stays, line))


def blank_spec(checkpoint: Checkpoint) -> Spec:
    """A skeleton in which every axis is labelled: nothing moves until names replace numbers."""
    axes = {
        name: tuple(Axis(((Atom(size=extent),),)) for extent in info.shape)
        for name, info in checkpoint.infos.items()
        if info.shape and 0 not in info.shape
    }
    return Spec(axes, source="a skeleton: put a group's name wherever units move together")


def check_same_layout(reference: Checkpoint, moving: Checkpoint) -> None:
    """Check that two checkpoints hold tensors of the same names and shapes, for as many heads.

    Raises:
        MismatchError: they do not; the tensors are listed.
    """
    hint = "both checkpoints must be of the same architecture."
    lacks = []
    for one, other in ((moving, reference), (reference, moving)):
        if missing := [f"'{name}'" for name in other.infos if name not in one.infos]:
            lacks.append(f"'{one.path}' lacks {listed(missing, _SHOWN)}")
    if lacks:
        check_same_ties(reference, moving)
        raise MismatchError(f"{' and '.join(lacks)}.", naming_hint(reference, moving) or hint)
    for name, info in reference.infos.items():
        moved = moving.infos[name]
        if info.shape != moved.shape or _numbers(info) != _numbers(moved):
            if len(info.shape) == len(moved.shape) and _numbers(info) == _numbers(moved):
                hint += (
                    " If this is a head or a vocabulary, align and merge all else: --partial; of transformers"
                )
                hint += " folders, merge vocabularies token by token: --tokenizer."
            raise MismatchError(
                f"'{name}' is {info.dtype} {list(info.shape)} in '{reference.path}' "
                f"but '{name}' is {moved.dtype} {list(moved.shape)} in '{moving.path}'.",
                hint,
            )
    check_same_heads(reference, moving)


def _numbers(info: TensorInfo) -> tuple[bool, bool]:
    """Whether real, complex or neither."""
    return info.is_float, info.is_complex


def shapes_of(checkpoint: Checkpoint) -> Mapping[str, tuple[int, ...]]:
    """The shapes by name, in the file's order."""
    return {name: info.shape for name, info in checkpoint.infos.items()}


def _given(checkpoint: Checkpoint, given: Path | Spec | None) -> Spec | None:
    if given is not None:
        return _without_prefix(given if isinstance(given, Spec) else read_spec(given), checkpoint)
    return stored_spec(checkpoint.metadata, f"the metadata of {checkpoint.path.name}")


def _without_prefix(spec: Spec, checkpoint: Checkpoint) -> Spec:
    """Names in a spec may be written as they stand in the file."""
    stored = {info.stored_name: name for name, info in checkpoint.infos.items()}
    names = {name: name if name in checkpoint.infos else stored.get(name, name) for name in spec.axes}
    return spec.renamed(lambda name: names.get(name, stored.get(name, name)))


def _family(checkpoint: Checkpoint, heads: int | None) -> Spec:
    idle = _idle(checkpoint)
    shapes = {name: shape for name, shape in shapes_of(checkpoint).items() if name not in idle}
    layout = Layout(shapes, heads or _configured_heads(checkpoint), checkpoint.ordered)
    spec = first_match(layout)
    if spec is None:
        raise misfit(
            f"the architecture of '{checkpoint.path}' cannot be recognised from its tensor names and shapes."
        )
    if heads is not None and not any("heads" in g for g in spec.groups()):
        raise UsageError(f"'{checkpoint.path}' has no attention heads.", "leave --heads out.")
    return spec


def _idle(checkpoint: Checkpoint) -> set[str]:
    """Integers of modules that have nothing else (counts of metrics, position ids): they touch no units."""
    busy = {
        place_of(name).path for name, info in checkpoint.infos.items() if info.is_float or info.is_complex
    }
    return {name for name in checkpoint if place_of(name).path not in busy}


def _configured_heads(checkpoint: Checkpoint) -> int | None:
    heads = checkpoint.config.get("num_attention_heads")
    return heads if type(heads) is int and heads > 0 else None


def _check_tied(checkpoint: Checkpoint, spec: Spec) -> None:
    for name, info in checkpoint.infos.items():
        first = info.tied_to
        if first and _moves(spec, name) != _moves(spec, first):
            raise SpecError(
                f"'{name}' and '{first}' share their memory but the spec moves them differently.",
                "give tied tensors the same axes, gains and phases.",
            )


def _moves(spec: Spec, name: str) -> tuple[object, ...]:
    """Everything that a spec does to a tensor: its axes, half turns and gains."""
    flips = {bias for bias, phase in spec.phases.items() if name in phase.flips}
    undone = {gain for gain, others in spec.gains.items() if name in others}
    return spec.axes.get(name), spec.phases.get(name), flips, name in spec.gains, undone
