"""Tensors of two names that hold the same numbers, as tied ones do whose file does not say that they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

from torch import Tensor

from deepalign_cli.checkpoint import Checkpoint
from deepalign_cli.symmetry.basis import Basis
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry

_FEW = 8  # entries that tell most tensors apart


def with_twins(symmetry: Symmetry, inputs: Sequence[Checkpoint]) -> Symmetry:
    """The same; what names and shapes alone showed takes for granted that no two tensors are one.

    That is said of those that are equal in every input, not constant, and do not move alike: safetensors
    files hold each of two tied tensors by itself.
    """
    spec = symmetry.spec
    said = tuple(
        f"'{a}' and '{b}', which hold the same numbers, are assumed to be two tensors, not one that is tied"
        for a, b in (_twins(spec, inputs) if spec.basis is Basis.READ else ())
    )
    return (
        Symmetry(replace(spec, assumptions=(*spec.assumptions, *said)), symmetry.shapes) if said else symmetry
    )


def _twins(spec: Spec, inputs: Sequence[Checkpoint]) -> list[tuple[str, str]]:
    alike = defaultdict[object, list[str]](list)
    for name, info in inputs[0].infos.items():
        if info.is_float and len(info.shape) > 1 and info.tied_to is None and info.numel:
            first = (0,) * (len(info.shape) - 1)
            start = tuple(float(x) for one in inputs for x in one[name][first][:_FEW])
            alike[info.dtype, info.shape, start].append(name)
    pairs = [pair for names in alike.values() for pair in combinations(names, 2)]
    return [(a, b) for a, b in pairs if spec.axes.get(a) != spec.axes.get(b) and _are_equal(a, b, inputs)]


def _are_equal(a: str, b: str, inputs: Sequence[Checkpoint]) -> bool:
    return all(
        one[a].dtype == one[b].dtype and one[a].equal(one[b]) and not _is_constant(one[a]) for one in inputs
    )


def _is_constant(w: Tensor) -> bool:
    return bool((w == w.flatten()[0]).all())
