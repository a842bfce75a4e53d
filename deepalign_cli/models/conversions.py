"""Names in files that differ from names in memory: transformers fuses some tensors as it loads them.

What its own tables say is found by converting tensors of numbered entries as `save_pretrained` does: the
numbers tell where in memory each entry of a file's tensor lies.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from deepalign_cli.models.fitting import Shape
from deepalign_cli.symmetry.axes import Atom, Axis, Term
from deepalign_cli.symmetry.blocks import extent
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry

_MOST = 2**28  # entries: the numbers take eight bytes each


def file_spec(model: nn.Module, spec: Spec) -> tuple[Spec, dict[str, Shape]] | None:
    """A spec of a model's tensors in memory as one of the tensors in its files, and their shapes.

    None where the conversion is not only a cutting and joining of tensors along axes, or takes too much
    memory. What moves is the same: a random element is tried on the numbers themselves.
    """
    state = {name: w for name, w in model.state_dict().items() if w.is_floating_point()}
    if sum(w.numel() for w in state.values()) > _MOST:
        return None
    numbers = _numbered(state)
    stored = _converted(model, numbers)
    if stored is None:
        return None
    shaped = {name: tuple(w.shape) for name, w in state.items()}
    still = replace(
        spec, kinds={}, gains={}, plus_one=frozenset()
    )  # that groups turn is none of its business
    symmetry = Symmetry(still, shaped)
    axes = {name: _axes(w.long(), numbers, symmetry) for name, w in stored.items()}
    shapes = {name: tuple(w.shape) for name, w in stored.items()}
    known = {name: one for name, one in axes.items() if one is not None}
    moving = {name: one for name, one in known.items() if any(True for axis in one for _ in axis.groups())}
    bare = replace(symmetry.spec, axes=moving, sizes=symmetry.sizes, phases={})
    if not _agrees(model, numbers, stored, symmetry, bare, shapes):
        return None
    return _with_gains(replace(bare, kinds=spec.kinds), spec, numbers, stored), shapes


def _with_gains(bare: Spec, spec: Spec, numbers: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> Spec:
    """The spec with the gains of norms and what undoes them, in the names of the file's tensors."""
    pieces: dict[str, list[str]] = {}
    for name, w in stored.items():
        pieces.setdefault(_source(w.long(), numbers), []).append(name)
    gains = {
        pieces[gain][0]: tuple(piece for name in others for piece in pieces.get(name, ()))
        for gain, others in spec.gains.items()
    }
    return replace(bare, gains=gains, plus_one=frozenset(pieces[gain][0] for gain in spec.plus_one))


def _source(numbers: Int64[Tensor, " ..."], state: Mapping[str, Tensor]) -> str:
    """The tensor in memory that a file's tensor is of; empty where there is none."""
    first = int(numbers.flatten()[0]) if numbers.numel() else 0
    return next((n for n, w in state.items() if w.numel() and w.flatten()[0] <= first <= w.flatten()[-1]), "")


def _numbered(state: Mapping[str, Tensor]) -> dict[str, Float64[Tensor, " ..."]]:
    start, numbers = 0, {}
    for name, w in state.items():
        numbers[name] = torch.arange(start, start + w.numel(), dtype=torch.float64).reshape(w.shape)
        start += w.numel()
    return numbers


def _converted(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:  # an older transformers, whose files are as its memory
        return None
    try:
        stored = revert_weight_conversion(model, dict(state))
    except Exception:  # an operation that wants real weights
        return None
    return {name: w for name, w in stored.items() if isinstance(w, Tensor)}


def _axes(
    numbers: Int64[Tensor, " ..."], state: Mapping[str, Tensor], symmetry: Symmetry
) -> tuple[Axis, ...] | None:
    """The axes of a file's tensor; None where they are not pieces of axes in memory."""
    name = _source(numbers, state)
    if name not in symmetry.spec.axes:
        return tuple(Axis(((Atom(size=n),),)) for n in numbers.shape)
    start, shape = int(state[name].flatten()[0]), state[name].shape
    axes = []
    for d in range(numbers.ndim):
        line = numbers.movedim(d, -1).reshape(-1, numbers.shape[d])[0] - start
        places = torch.stack(torch.unravel_index(line, shape))
        along = [i for i, row in enumerate(places) if bool((row != row[0]).any())]
        if len(along) > 1:
            return None
        whole = symmetry.spec.axes[name][along[0]] if along else Axis(((Atom(size=1),),))
        piece = _piece(whole, places[along[0]].tolist(), symmetry.sizes) if along else whole
        if piece is None:
            return None
        axes.append(piece)
    return tuple(axes)


def _piece(axis: Axis, places: list[int], sizes: Mapping[str, int]) -> Axis | None:
    """Some places of an axis: whole terms, one block of a term, or one entry of each block."""
    extents = [_entries(term, sizes) for term in axis.terms]
    ends = [0, *itertools.accumulate(extents)]
    first, last = places[0], places[-1] + 1
    if places == list(range(first, last)) and first in ends and last in ends:
        return Axis(axis.terms[ends.index(first) : ends.index(last)])
    term = next((t for t, end in zip(axis.terms, ends[1:], strict=True) if first < end), axis.terms[-1])
    start = max(end for end in ends if end <= first)
    head, tail = term[0], term[-1]
    if isinstance(head, Atom) and not head.name and len(term) > 1:
        inner = _entries(term[1:], sizes)
        if places == list(range(first, first + inner)) and (first - start) % inner == 0:
            return Axis((term[1:],))
    if isinstance(tail, Atom) and not tail.name and len(term) > 1:
        step, count = tail.size, _entries(term[:-1], sizes)
        if places == list(range(first, start + step * count, step)) and first - start < step:
            return Axis((term[:-1],))
    if not list(axis.groups()):
        return Axis(((Atom(size=len(places)),),))
    return None


def _entries(term: Term, sizes: Mapping[str, int]) -> int:
    return math.prod(extent(factor, sizes) for factor in term)


def _agrees(
    model: nn.Module, numbers: Mapping[str, Tensor], stored: Mapping[str, Tensor], symmetry: Symmetry,
    spec: Spec, shapes: Mapping[str, Shape],
) -> bool:  # fmt: skip
    """Whether moving units in memory and then converting is converting and then moving them."""
    g = symmetry.random(torch.Generator().manual_seed(0))
    only = {group: g.perm[group] for group in spec.groups()}
    if only.keys() != g.perm.keys():
        return False
    moved = _converted(model, symmetry.apply(g, numbers))
    other = Symmetry(spec, shapes).apply(g, stored)
    return moved is not None and all(torch.equal(w, other[name]) for name, w in moved.items())
