"""Two checkpoints of one architecture that do not hold quite the same tensors, made to fit.

What means nothing is passed over with a note: a prefix before all names of one, counters of batches that only
one has. What means something, heads of other classes and embeddings of other vocabularies, only on request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.selection import Selection
from deepalign_cli.errors import MismatchError
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.resolve import check_same_layout, shapes_of
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensor_names import common_prefix, is_counter


@dataclass(frozen=True)
class Fitted:
    """Inputs, the reference first, that hold the same tensors; and each as a whole, under the same names."""

    inputs: tuple[Checkpoint, ...]
    wholes: tuple[Checkpoint, ...]

    @property
    def is_partial(self) -> bool:
        """Whether the reference has tensors that are its own."""
        return len(self.inputs[0]) < len(self.wholes[0])

    def restricted(self, spec: Spec) -> Spec:
        """What the spec of the whole reference says of the tensors that all share."""
        shared = {name: axes for name, axes in spec.axes.items() if name in self.inputs[0]}
        return spec.with_axes(shared) if self.is_partial else spec

    def symmetry_of(self, place: int, spec: Spec) -> Symmetry:
        """The symmetry of a whole input by the reference's spec: its own tensors have extents of their own.

        Raises:
            MismatchError: one of them differs in hidden units.
        """
        whole, axes = self.wholes[place], dict(spec.axes)
        for name in axes.keys() - self.inputs[0].infos.keys():
            if name in whole:
                axes[name] = _own_axes(name, axes[name], whole)
            else:
                del axes[name]
        return Symmetry(spec.with_axes(axes), shapes_of(whole))


def fitted(inputs: Sequence[Checkpoint], *, partial: bool) -> Fitted:
    """The inputs, made to fit the first.

    Raises:
        MismatchError: one does not.
    """
    reference = inputs[0]
    wholes = (reference, *(_renamed(reference, other) for other in inputs[1:]))
    shared = {name: name for name in reference}
    if partial:
        shared = {name: name for name in shared if all(_is_shared(name, reference, w) for w in wholes)}
    if partial and all(map(is_counter, shared)):
        problem = f"'{inputs[-1].path}' shares no tensor with '{reference.path}'."
        raise MismatchError(problem, "--partial needs an architecture that is the same but for its ends.")
    if len(shared) < len(reference):
        own = [name for name in reference if name not in shared]
        note = f"{reference.called} keeps tensors of its own: {', '.join(own)}"
        reference = Selection(reference, shared, [note])
    views = (reference, *(_view(reference, whole, partial) for whole in wholes[1:]))
    for view in views[1:]:
        check_same_layout(reference, view)
    return Fitted(views, wholes)


def _is_shared(name: str, reference: Checkpoint, other: Checkpoint) -> bool:
    if name not in other:
        return is_counter(name)
    return reference.infos[name].shape == other.infos[name].shape


def _view(reference: Checkpoint, whole: Checkpoint, partial: bool) -> Checkpoint:
    """Of another input, the tensors that the reference has."""
    extra = [name for name in whole if name not in reference]
    lacking = [name for name in reference if name not in whole and is_counter(name)]
    dropped = [name for name in extra if partial or is_counter(name)]
    if not dropped and not lacking:
        return whole
    notes = []
    if lacking or any(map(is_counter, dropped)):
        notes.append(
            f"only one of {reference.called} and {whole.called} counts (num_batches_tracked, n_averaged)"
        )
    if own := [name for name in dropped if not is_counter(name)]:
        notes.append(f"{whole.called} has tensors of its own: {', '.join(own)}")
    names = {name: name for name in whole if name not in dropped}
    return Selection(whole, names, notes, reference, lacking)


def _renamed(reference: Checkpoint, other: Checkpoint) -> Checkpoint:
    """The other under the reference's names, where these differ by a prefix only."""
    sets = [{name for name in checkpoint if not is_counter(name)} for checkpoint in (reference, other)]
    if sets[0] & sets[1]:
        return other
    prefixes = [common_prefix(list(checkpoint)) for checkpoint in (reference, other)]
    for new, old in ((prefixes[0], ""), ("", prefixes[1]), (prefixes[0], prefixes[1])):
        if {new + name.removeprefix(old) for name in sets[1]} == sets[0]:
            note = f"names begin with '{new}' in {reference.called} and with '{old}' in {other.called}"
            return Selection(other, {name: new + name.removeprefix(old) for name in other}, [note])
    return other


def _own_axes(name: str, axes: Sequence[Axis], whole: Checkpoint) -> tuple[Axis, ...]:
    shape = whole.infos[name].shape
    if len(shape) != len(axes):
        raise MismatchError(f"'{name}' has {len(shape)} axes in '{whole.path}' and {len(axes)} in the spec.")
    return tuple(
        axis if any(axis.groups()) else Axis(((Atom(size=extent),),))
        for axis, extent in zip(axes, shape, strict=True)
    )


def check_followed(fit: Fitted, place: int, axes: Mapping[str, object]) -> None:
    """Check that an input which is written whole has no tensor of which the spec says nothing.

    Raises:
        MismatchError: it has one, which may have to move with others.
    """
    extra = [name for name in fit.wholes[place] if name not in fit.wholes[0] and not is_counter(name)]
    if unknown := [name for name in extra if name not in axes]:
        problem = f"'{fit.wholes[place].path}' has '{unknown[0]}', which '{fit.wholes[0].path}' lacks."
        raise MismatchError(problem, "merge leaves it out; to align, give a --spec that has it.")
