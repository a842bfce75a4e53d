"""What holds for every aligner, trained or not, on every architecture that has a symmetry."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.assignment import assign
from deepalign_cli.network.model import DeepAlign
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.network.builders import acted, compared, largest_gap, network
from tests.symmetry.builders import CASES, seeded

ROUNDING = 1e-11
EVEN, ODD = [*CASES][::2], [*CASES][1::2]  # each law on half of the architectures


@pytest.mark.parametrize("name", ODD)
def test_moving_units_moves_the_similarities(model: DeepAlign, name: str) -> None:
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    g, h = symmetry.random(seeded(1)), symmetry.random(seeded(2))
    before = compared(model, symmetry, a, b)
    after = compared(model, symmetry, acted(symmetry, g, a), acted(symmetry, h, b))
    moved = {k: s[g.perm[k]][:, h.perm[k]] for k, s in before.items()}
    assert largest_gap(after, moved) < ROUNDING
    assert largest_gap(after, before) > 1e-3


@pytest.mark.parametrize("name", EVEN)
def test_exchanging_the_networks_transposes_the_similarities(model: DeepAlign, name: str) -> None:
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    turned = {k: s.T for k, s in compared(model, symmetry, b, a).items()}
    assert largest_gap(compared(model, symmetry, a, b), turned) < ROUNDING


@pytest.mark.parametrize("name", ODD)
def test_a_planted_permutation_is_recovered_exactly(model: DeepAlign, name: str) -> None:
    symmetry, a = network(name)
    g = symmetry.random(seeded(3))
    found = compared(model, symmetry, a, acted(symmetry, g, a))
    back = g.inverse().perm
    assert {k for k, s in found.items() if not torch.equal(assign(s), back[k])} == set()


@pytest.mark.parametrize("name", EVEN)
def test_names_and_storage_order_mean_nothing(model: DeepAlign, name: str) -> None:
    (symmetry, a), (_, b) = network(name), network(name, seed=7)
    tensors = {n: f"m{i}.{n.rpartition('.')[2]}" for i, n in enumerate(symmetry.spec.axes)}
    groups = {g: f"g{i}" for i, g in enumerate(symmetry.sizes)}
    axes = {tensors[n]: _renamed(axes, groups) for n, axes in reversed(list(symmetry.spec.axes.items()))}
    shapes = {tensors[n]: s for n, s in symmetry.shapes.items() if n in tensors}
    c, d = ({tensors[n]: w for n, w in x.items() if n in tensors} for x in (a, b))
    before = compared(model, symmetry, a, b)
    other = compared(model, Symmetry(Spec(axes), shapes), c, d)
    after: dict[str, Tensor] = {g: other[new] for g, new in groups.items()}
    assert largest_gap(before, after) < ROUNDING
    assert all(torch.equal(assign(before[g]), assign(after[g])) for g in groups)


def _renamed(axes: tuple[Axis, ...], groups: dict[str, str]) -> tuple[Axis, ...]:
    def atom(a: Atom) -> Atom:
        return Atom(groups[a.name], a.mark) if a.name else a

    return tuple(Axis(tuple(tuple(map(atom, term)) for term in axis.terms)) for axis in axes)
