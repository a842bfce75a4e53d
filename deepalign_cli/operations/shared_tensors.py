"""Two checkpoints of one architecture that do not hold quite the same tensors, made to fit.

What means nothing is passed over with a note: a prefix before all names of one, counters of batches that only
one has. What means something, heads of other classes and embeddings of other vocabularies, only on request:
they stay as they are (`partial`), or their rows are brought together by tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from deepalign_cli.aligners.alignment import Alignment
from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.checkpoint.selection import Selection
from deepalign_cli.errors import MismatchError
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.resolve import check_same_layout, shapes_of
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Shapes, Symmetry
from deepalign_cli.symmetry.tensor_names import common_prefix, is_counter
from deepalign_cli.vocabulary.modes import Tokens

if TYPE_CHECKING:
    from deepalign_cli.vocabulary.vocabulary import Vocabulary


@dataclass(frozen=True)
class Fitted:
    """Inputs, the reference first, that hold the same tensors; and each as a whole, under the same names.

    With a `vocabulary` the inputs have the rows of the tokens that all share, or those of the first one's.
    """

    inputs: tuple[Checkpoint, ...]
    wholes: tuple[Checkpoint, ...]
    vocabulary: Vocabulary | None = None

    @property
    def is_partial(self) -> bool:
        """Whether the reference has tensors that are its own."""
        return len(self.inputs[0]) < len(self.wholes[0])

    @property
    def is_cut(self) -> bool:
        """Whether inputs are less than the networks: without some tensors, or some tokens."""
        return self.is_partial or self.vocabulary is not None

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the tensors that are the reference's own."""
        return tuple(name for name in self.wholes[0] if name not in self.inputs[0])

    @cached_property
    def _placed(self) -> tuple[Checkpoint, ...]:
        return self.vocabulary.placed(self.wholes) if self.vocabulary else self.wholes

    @property
    def layout(self) -> Checkpoint:
        """The reference as a whole, with the rows that the output has."""
        return self._placed[0]

    @cached_property
    def sources(self) -> tuple[Checkpoint, ...]:
        """The inputs with the rows that the output has: what it is made of."""
        return _views(self._placed, list(self.inputs[0]), partial=True) if self.vocabulary else self.inputs

    def restricted(self, spec: Spec) -> Spec:
        """What the spec of the whole reference says of the tensors, and tokens, that all share."""
        shared = {name: axes for name, axes in spec.axes.items() if name in self.inputs[0]}
        spec = spec.with_axes(shared) if self.is_partial else spec
        return self.vocabulary.relabelled(spec, shapes_of(self.inputs[0])) if self.vocabulary else spec

    def respelt(self, spec: Spec, shapes: Shapes) -> Spec:
        """A spec with as many tokens as tensors of these shapes have."""
        return self.vocabulary.relabelled(spec, shapes) if self.vocabulary else spec

    def of_reference(self, spec: Spec) -> Spec:
        """A spec that another input carries, with as many tokens as the reference has."""
        return self.vocabulary.relabelled(spec, shapes_of(self.wholes[0])) if self.vocabulary else spec

    def symmetry_of(self, place: int, spec: Spec) -> Symmetry:
        """The symmetry of a whole input by the reference's spec: its own tensors have extents of their own.

        Raises:
            MismatchError: one of them differs in hidden units.
        """
        return self._of_whole(self.wholes[place], spec)

    def of_whole(self, alignment: Alignment, place: int, spec: Spec) -> Alignment:
        """An alignment of what inputs share, for one of them with all that it has, by the whole spec."""
        return replace(alignment, symmetry=self.symmetry_of(place, spec)) if self.is_cut else alignment

    def spec_of_output(self, spec: Spec) -> Spec:
        """The reference's spec as what the inputs are merged into has it."""
        return self._of_whole(self.layout, spec).spec

    def _of_whole(self, whole: Checkpoint, spec: Spec) -> Symmetry:
        axes = dict(spec.axes)
        for name in axes.keys() - self.inputs[0].infos.keys():
            if name in whole:
                axes[name] = _own_axes(name, axes[name], whole)
            else:
                del axes[name]
        spec = spec.with_axes(axes)
        spec = self.vocabulary.relabelled(spec, shapes_of(whole)) if self.vocabulary else spec
        return Symmetry(spec, shapes_of(whole))


def fitted(
    inputs: Sequence[Checkpoint], *, partial: bool, tokens: Tokens | None = None, runs: bool = False
) -> Fitted:
    """The inputs, made to fit the first; where they are to be run, so that all read the first one's tokens.

    Raises:
        MismatchError: one does not. UsageError: an input has no tokens.
    """
    reference = inputs[0]
    wholes = (reference, *(_renamed(reference, other) for other in inputs[1:]))
    vocabulary = None
    if tokens is not None:
        from deepalign_cli.vocabulary.vocabulary import vocabulary_of  # which loads tracing's modules

        vocabulary = vocabulary_of(wholes, tokens)
    seen = wholes
    if vocabulary is not None:
        seen = vocabulary.read_alike(wholes) if runs else vocabulary.in_common(wholes)
    shared = list(reference)
    if partial:
        shared = [name for name in shared if all(_is_shared(name, seen[0], w) for w in seen)]
    if partial and all(map(is_counter, shared)):
        problem = f"'{inputs[-1].path}' shares no tensor with '{reference.path}'."
        raise MismatchError(problem, "--partial needs an architecture that is the same but for its ends.")
    views = _views(seen, shared, partial)
    for view in views[1:]:
        check_same_layout(views[0], view)
    return Fitted(views, wholes, vocabulary)


def _views(wholes: Sequence[Checkpoint], shared: Sequence[str], partial: bool) -> tuple[Checkpoint, ...]:
    """Of each input the tensors that all share."""
    reference = wholes[0]
    if len(shared) < len(reference):
        own = [name for name in reference if name not in set(shared)]
        note = f"{reference.called} keeps tensors of its own: {', '.join(own)}"
        reference = Selection(reference, {name: name for name in shared}, [note])
    return (reference, *(_view(reference, whole, partial) for whole in wholes[1:]))


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
