"""Canonical signs: they turn where a unit was turned, so that what is read does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deepalign_cli.network.graph import Graph
from deepalign_cli.network.signs import canonical_signs
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import PERMUTATION
from deepalign_cli.symmetry.spec import Activation
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import case, seeded
from tests.symmetry.fused import FUSED, fused_case


@pytest.mark.parametrize(("name", "activation"), [("tanh_mlp", "tanh"), ("siren", "sin"), ("mlp", "tanh")])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_turned_network_is_brought_to_the_same_signs(name: str, activation: str, seed: int) -> None:
    symmetry, a = case(name, Activation(activation))
    a = {n: w.double() for n, w in a.items()}
    g = symmetry.random(seeded(5))
    b = symmetry.apply(g, a)
    graph = Graph(symmetry)
    own, other = canonical_signs(graph, a, seed), canonical_signs(graph, b, seed)
    assert set(own.scale) == set(symmetry.sizes)
    assert all(0 < int((s < 0).sum()) < len(s) for s in own.scale.values())
    perm = Symmetry(symmetry.spec, symmetry.shapes).only(g, symmetry.sizes)
    moved = symmetry.apply(type(g)(perm.perm), symmetry.apply(own, a))
    assert all(torch.equal(w, moved[n]) for n, w in symmetry.apply(other, b).items())


@pytest.mark.parametrize("name", FUSED)
def test_what_does_not_turn_does_not_disturb_the_signs(name: str) -> None:
    symmetry, a = fused_case(name)
    symmetry = Symmetry(replace(symmetry.spec, kinds={}).with_kinds(sign=True), symmetry.shapes)
    g = symmetry.random(seeded(5))
    b = symmetry.apply(g, a)
    graph = Graph(symmetry)
    own, other = canonical_signs(graph, a, 0), canonical_signs(graph, b, 0)
    assert any(bool((s < 0).any()) for s in own.scale.values())
    moved = symmetry.apply(Element(g.perm), symmetry.apply(own, a))
    assert all(torch.equal(w, moved[n]) for n, w in symmetry.apply(other, b).items())


def test_groups_that_cannot_turn_get_no_sign() -> None:
    symmetry, a = case("mlp")
    assert set(symmetry.kinds.values()) == {PERMUTATION}
    assert canonical_signs(Graph(symmetry), a, 0).scale == {}
