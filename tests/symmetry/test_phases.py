"""Phases of sine units: the group's laws on the network itself, the notation, what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.models.designs.siren import Siren
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry

W0 = 30.0
TEXT = f"""
[kinds]
h = "sign"
k = "sign"

[phases]
"layers.0.bias" = {{ half_turn = {math.pi / W0!r}, flips = ["layers.1.weight"] }}
"layers.1.bias" = {{ half_turn = {math.pi / W0!r}, flips = ["layers.2.weight"] }}

[axes]
"layers.0.weight" = "~h 2"
"layers.0.bias" = "~h"
"layers.1.weight" = "~k ~h"
"layers.1.bias" = "~k"
"layers.2.weight" = "3 ~k"
"""
DESIGN = Siren((2, 6, 5, 3), W0)


def network(seed: int = 0) -> dict[str, Tensor]:
    weights = DESIGN.init(torch.Generator().manual_seed(seed))
    return {name: w.double() for name, w in weights.items()}


def symmetry(text: str = TEXT) -> Symmetry:
    return Symmetry(Spec.parse(text), {name: tuple(w.shape) for name, w in network().items()})


def output(weights: dict[str, Tensor]) -> Tensor:
    return DESIGN(weights, torch.linspace(-1, 1, 40, dtype=torch.float64).reshape(20, 2))


def largest(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@given(st.integers(0, 2**31))
@settings(max_examples=20)
def test_random_elements_keep_the_function_and_compose(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    s, w = symmetry(), network()
    g, h = s.random(rng), s.random(rng)

    assert torch.allclose(output(s.apply(g, w)), output(w), atol=1e-12)
    assert largest(s.apply(h, s.apply(g, w)), s.apply(h @ g, w)) < 1e-13
    assert largest(s.apply(g.inverse(), s.apply(g, w)), w) < 1e-13


def test_a_half_turn_moves_the_bias_and_flips_the_readers_alone() -> None:
    s, w = symmetry(), network()
    g = Element({}, shift={"h": torch.tensor([1.0, 0, 2, 0, 0, -3]).double()})

    moved = s.apply(g, w)

    flipped = torch.tensor([-1.0, 1, 1, 1, 1, -1]).double()
    assert torch.equal(moved["layers.0.weight"], w["layers.0.weight"])
    assert torch.equal(moved["layers.1.weight"], w["layers.1.weight"] * flipped)
    assert torch.allclose(moved["layers.0.bias"] - w["layers.0.bias"], g.shift["h"] * math.pi / W0)
    assert g.moved("h") == 3
    assert torch.allclose(output(moved), output(w), atol=1e-12)


def test_without_signs_phases_rest() -> None:
    bare = symmetry(TEXT.replace('"sign"', '"permutation"'))

    assert not bare.phases
    assert not bare.random(torch.Generator()).shift


def test_the_notation_goes_round_and_follows_names() -> None:
    spec = Spec.parse(TEXT)

    assert Spec.parse(str(spec)) == spec
    renamed = spec.renamed(lambda name: f"net.{name}")
    assert renamed.phases["net.layers.0.bias"].flips == ("net.layers.1.weight",)
    part = {name: axes for name, axes in spec.axes.items() if name != "layers.2.weight"}
    assert [*spec.with_axes(part).phases] == ["layers.0.bias"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("half_turn = 0.1", "turn = 0.1", "not a half turn and what flips by it"),
        ("half_turn = 0.1", "half_turn = -0.1", "not a half turn"),
        ("half_turn = 0.1", "half_turn = 1", "not a half turn"),
        ('["layers.1.weight"]', '"layers.1.weight"', "not a half turn and what flips"),
        ('["layers.1.weight"]', "[]", "nothing flips"),
        ('["layers.1.weight"]', '["layers.2.weight"]', "does not flip with the group 'h'"),
        ('"layers.0.bias" = {', '"layers.1.weight" = {', "no vector of one group's units"),
        ('"layers.0.bias" = {', '"layers.9.bias" = {', "no vector of one group's units"),
    ],
)
def test_what_is_no_phase_is_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT

    with pytest.raises(SpecError, match=message):
        symmetry(TEXT.replace(old, new, 1))


def test_two_phases_of_one_group_are_refused() -> None:
    spec = Spec.parse(TEXT)
    axes = {**spec.axes, "layers.1.bias": spec.axes["layers.0.bias"]}
    phases = {**spec.phases, "layers.1.bias": spec.phases["layers.0.bias"]}
    shapes = {name: tuple(w.shape) for name, w in network().items()} | {"layers.1.bias": (6,)}

    with pytest.raises(SpecError, match="two phases"):
        Symmetry(replace(spec, axes=axes, phases=phases), shapes)
