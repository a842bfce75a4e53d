from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.canonical import canonical_scales
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import case, seeded

NAMES = ["mlp", "mlp_batchnorm", "plain_cnn", "cifar_resnet", "transformer_prenorm"]


def doubled(name: str) -> tuple[Symmetry, dict[str, Tensor]]:
    symmetry, w = case(name, Activation.RELU)
    return symmetry, {n: x.double() if x.is_floating_point() else x for n, x in w.items()}


def energies(symmetry: Symmetry, w: dict[str, Tensor], group: str) -> dict[int, Tensor]:
    """For each exponent of the scale the units' squared norms."""
    out = {1: torch.zeros(symmetry.sizes[group]).double(), -1: torch.zeros(symmetry.sizes[group]).double()}
    for place in symmetry.occurrences[group]:
        if place.exponent:
            out[place.exponent] += symmetry.unfold(place, w[place.name]).square().sum(1)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_incoming_and_outgoing_norms_of_every_unit_are_equal(name: str) -> None:
    symmetry, w = doubled(name)
    g = canonical_scales(symmetry, w)
    assert not g.perm
    assert g.scale
    balanced = symmetry.apply(g, w)
    for group in g.scale:
        found, before = energies(symmetry, balanced, group), energies(symmetry, w, group)
        assert torch.allclose(found[1], found[-1], rtol=1e-6)
        assert not torch.allclose(before[1], before[-1], rtol=1e-2)


@pytest.mark.parametrize("name", NAMES)
def test_planted_scales_leave_no_trace(name: str) -> None:
    symmetry, w = doubled(name)
    g = Element({}, symmetry.random(seeded(0)).scale)
    other = symmetry.apply(g, w)
    one = symmetry.apply(canonical_scales(symmetry, w), w)
    two = symmetry.apply(canonical_scales(symmetry, other), other)
    assert all(torch.allclose(one[n], two[n], rtol=1e-6, atol=1e-9) for n in w)
    assert any(not torch.allclose(w[n], other[n], rtol=1e-2) for n in w)


def test_dead_units_keep_their_scale() -> None:
    symmetry, w = doubled("mlp")
    w["0.weight"][3], w["0.bias"][3] = 0.0, 0.0
    w["2.weight"][:, 5] = 0.0
    scale = canonical_scales(symmetry, w).scale["h0"]
    assert scale[[3, 5]].tolist() == [1.0, 1.0]
    assert bool(scale.isfinite().all() and (scale > 0).all())


@pytest.mark.parametrize("activation", [None, Activation.TANH])
def test_without_scale_groups_there_is_nothing_to_balance(activation: Activation | None) -> None:
    assert canonical_scales(*case("mlp", activation)) == Element({}, {})
