"""Group laws, through the action on tensors. Scales are powers of two, so that every law is exact."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import same_element, seeded

TEXT = """
[axes]
a = "+s 2"
b = "+r -s"
c = "p*3|2 -r"
d = "p s|+r|-s"
e = "p*(~+t|-t|~t|t) +u"
f = "2*(-u|~-t*2) +t"
[kinds]
s = "sign"
r = "scale"
t = "signed scale"
u = "signed scale"
"""
SIZES = {"s": 4, "r": 3, "p": 5, "t": 2, "u": 3}
SHAPES = {"a": (4, 2), "b": (3, 4), "c": (17, 3), "d": (5, 11), "e": (40, 3), "f": (14, 2)}
SYMMETRY = Symmetry(parse_spec(TEXT), SHAPES)
WEIGHTS = {
    n: torch.randn(s, generator=seeded(i), dtype=torch.float64) for i, (n, s) in enumerate(SHAPES.items())
}


@st.composite
def elements(draw: st.DrawFn) -> Element:
    """An element of SYMMETRY that may leave groups out."""
    perm: dict[str, Tensor] = {}
    scale: dict[str, Tensor] = {}
    for group, size in SIZES.items():
        if draw(st.booleans()):
            perm[group] = torch.tensor(draw(st.permutations(range(size))))
    if draw(st.booleans()):
        signs = st.lists(st.sampled_from([-1.0, 1.0]), min_size=4, max_size=4)
        scale["s"] = torch.tensor(draw(signs), dtype=torch.float64)
    if draw(st.booleans()):
        powers = st.lists(st.integers(-3, 3), min_size=3, max_size=3)
        scale["r"] = torch.exp2(torch.tensor(draw(powers), dtype=torch.float64))
    for group in ("t", "u"):
        if draw(st.booleans()):
            size = SIZES[group]
            drawn = st.tuples(st.sampled_from([-1.0, 1.0]), st.integers(-3, 3))
            factors = [
                sign * 2.0**power for sign, power in draw(st.lists(drawn, min_size=size, max_size=size))
            ]
            scale[group] = torch.tensor(factors, dtype=torch.float64)
    return Element(perm, scale)


def act(g: Element, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return SYMMETRY.apply(g, weights)


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in SHAPES)


@given(elements(), elements())
def test_a_product_acts_as_its_right_factor_first(g: Element, h: Element) -> None:
    assert equal(act(g @ h, WEIGHTS), act(g, act(h, WEIGHTS)))


@given(elements())
def test_the_inverse_undoes(g: Element) -> None:
    assert equal(act(g.inverse(), act(g, WEIGHTS)), WEIGHTS)
    assert equal(act(g @ g.inverse(), WEIGHTS), WEIGHTS)
    assert equal(act(g.inverse() @ g, WEIGHTS), WEIGHTS)
    assert same_element(g.inverse().inverse(), g)


@given(elements(), elements(), elements())
def test_products_are_associative(f: Element, g: Element, h: Element) -> None:
    assert same_element((f @ g) @ h, f @ (g @ h))


@given(elements())
def test_the_identity_is_neutral(g: Element) -> None:
    one = SYMMETRY.identity()
    assert equal(act(one @ g, WEIGHTS), act(g, WEIGHTS))
    assert equal(act(g @ one, WEIGHTS), act(g, WEIGHTS))
    assert same_element(Element({}) @ g, g)
    assert same_element(g @ Element({}), g)


def test_place_i_holds_unit_perm_i_times_scale_i() -> None:
    g = Element({"h": torch.tensor([2, 0, 1])}, {"h": torch.tensor([1.0, -1.0, 1.0]).double()})
    symmetry = Symmetry(parse_spec('[axes]\nb = "+h"\n[kinds]\nh = "sign"'), {"b": (3,)})
    assert symmetry.act(g, "b", torch.tensor([10.0, 20.0, 30.0])).tolist() == [30, -10, 20]


def test_a_product_leaves_its_factors_alone() -> None:
    g = SYMMETRY.random(seeded(0))
    h = SYMMETRY.random(seeded(1))
    before = act(g, WEIGHTS), act(h, WEIGHTS)
    _ = g @ h, g.inverse()
    assert equal(act(g, WEIGHTS), before[0])
    assert equal(act(h, WEIGHTS), before[1])


def test_units_that_turn_or_leave_their_place_are_counted() -> None:
    g = Element(
        {"p": torch.tensor([1, 0, 2, 3, 4]), "s": torch.arange(4)},
        {"s": torch.tensor([1.0, -1.0, 1.0, -1.0]).double(), "r": torch.tensor([1.0, 2.0, 1.0]).double()},
    )
    assert [g.moved(group) for group in ("p", "s", "r", "unknown")] == [2, 2, 1, 0]
