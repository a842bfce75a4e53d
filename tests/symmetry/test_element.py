"""Group laws, through the action on tensors. Scales are powers of two, so that every law is exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepalign_cli.errors import SpecError
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


# --- elements that turn -----------------------------------------------------------------------------------

TURNING = """
[kinds]
s = "centred orthogonal"
qk = "rotary"
vo = "orthogonal"
r = "scale"
[gains]
"norm" = ["shift", "q", "fused"]
[axes]
embed = "7 s"
shift = "s"
q = "heads*queries*qk s"
fused = "heads*(qk|2|vo) s"
bias = "heads*(qk|2|vo)"
o = "s heads*queries*vo"
both = "s|3|+r s"
alone = "vo -r"
ids = "heads"
"""
TURNING_SHAPES = {
    "embed": (7, 5), "shift": (5,), "norm": (5,), "q": (3 * 2 * 4, 5), "fused": (3 * 9, 5), "bias": (27,),
    "o": (5, 3 * 2 * 3), "both": (5 + 3 + 4, 5), "alone": (3, 4), "ids": (3,),
}  # fmt: skip
BOUND = Symmetry(parse_spec(TURNING), TURNING_SHAPES)


def drawn(seed: int) -> dict[str, Tensor]:
    rng = seeded(seed)
    return {n: torch.rand(s, generator=rng, dtype=torch.float64) + 0.5 for n, s in TURNING_SHAPES.items()}


def close(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-11, atol=1e-12) for name in TURNING_SHAPES)


def test_what_turns_in_heads_turns_in_each_by_itself_and_else_alike() -> None:
    assert BOUND.within == {"s": "", "qk": "heads", "vo": ""}  # `alone` has no heads
    g = BOUND.random(seeded(0))
    assert {group: tuple(one.matrix.shape) for group, one in g.turn.items()} == {
        "s": (1, 5, 5), "qk": (3, 4, 4), "vo": (1, 3, 3),
    }  # fmt: skip
    assert g.perm.keys() == {"heads", "queries", "r"}
    assert BOUND.identity().perm.keys() == g.perm.keys()


def test_turns_act_as_loops_over_heads_do() -> None:
    g, w = BOUND.random(seeded(1)), drawn(0)["q"]
    heads, queries, q = g.perm["heads"], g.perm["queries"], g.turn["qk"].matrix
    new = torch.empty(3, 2, 4, 5, dtype=torch.float64)
    for h in range(3):
        for i in range(2):
            new[h, i] = q[h] @ w.reshape(3, 2, 4, 5)[heads[h], queries[i]] @ g.turn["s"].matrix[0].T
    assert torch.allclose(BOUND.act(g, "q", w), new.reshape(24, 5))


def test_products_and_inverses_of_turning_elements_act_so() -> None:
    g, h, w = BOUND.random(seeded(2)), BOUND.random(seeded(3)), drawn(1)
    assert close(BOUND.apply(g @ h, w), BOUND.apply(g, BOUND.apply(h, w)))
    for one in (g, g @ h):
        assert close(BOUND.apply(one.inverse(), BOUND.apply(one, w)), w)
        assert close(BOUND.apply(one @ one.inverse(), w), w)
        assert close(BOUND.apply(one.inverse() @ one, w), w)


def test_elements_between_networks_with_gains_compose_and_are_undone() -> None:
    a, b, c = (drawn(seed) for seed in (4, 5, 6))
    first = BOUND.without_gains(b).inverse() @ BOUND.random(seeded(7)) @ BOUND.without_gains(a)
    second = BOUND.without_gains(c).inverse() @ BOUND.random(seeded(8)) @ BOUND.without_gains(b)
    moved = BOUND.apply(first, a)
    assert torch.equal(moved["norm"], b["norm"])
    assert close(BOUND.apply(second @ first, a), BOUND.apply(second, moved))
    assert close(BOUND.apply(first.inverse(), moved), a)
    assert close(BOUND.apply((second @ first).inverse(), BOUND.apply(second, moved)), a)


def test_what_meets_no_gains_is_neutral_beside_them() -> None:
    a, b = drawn(4), drawn(5)
    g = BOUND.without_gains(b).inverse() @ BOUND.random(seeded(7)) @ BOUND.without_gains(a)
    for one in (BOUND.identity() @ g, g @ BOUND.identity(), Element({}) @ g, g @ Element({})):
        assert close(BOUND.apply(one, a), BOUND.apply(g, a))


def test_a_part_of_an_element_acts_on_its_groups_alone() -> None:
    g, w = BOUND.random(seeded(9)), drawn(2)
    part = BOUND.only(g, ["qk"])
    assert (part.perm, part.turn.keys()) == ({}, {"qk"})
    assert torch.equal(BOUND.act(part, "embed", w["embed"]), w["embed"])
    assert not torch.allclose(BOUND.act(part, "bias", w["bias"]), w["bias"])
    assert (part.moved("qk"), part.moved("s")) == (4, 0)


def test_integers_are_permuted_by_an_element_that_turns_and_never_turned() -> None:
    g = BOUND.random(seeded(0))
    assert torch.equal(BOUND.act(g, "ids", torch.tensor([10, 20, 30])), 10 * (g.perm["heads"] + 1))
    for bad in (torch.ones(7, 5, dtype=torch.int64), torch.ones(7, 5, dtype=torch.complex64)):
        with pytest.raises(SpecError, match=r"'embed' holds torch.* and cannot be turned"):
            BOUND.act(g, "embed", bad)


def test_complex_tensors_are_permuted_by_an_element_that_turns() -> None:
    g, w = BOUND.random(seeded(0)), torch.tensor([1j, 2.0, 3.0])
    assert torch.equal(BOUND.act(g, "ids", w), w[g.perm["heads"]])


def test_units_inside_what_is_mixed_are_not_told_apart() -> None:
    text = '[kinds]\nh = "orthogonal"\nd = "orthogonal"\n[axes]\nw = "h*d"\nh = "h"'
    symmetry = Symmetry(parse_spec(text), {"w": (6,), "h": (2,)})
    assert symmetry.within == {"h": "", "d": ""}
    w = {"w": torch.rand(6, generator=seeded(0)).double(), "h": torch.rand(2, generator=seeded(1)).double()}
    g, h = symmetry.random(seeded(1)), symmetry.random(seeded(2))
    assert torch.allclose(
        symmetry.act(g @ h, "w", w["w"]), symmetry.act(g, "w", symmetry.act(h, "w", w["w"]))
    )


def test_an_odd_number_of_units_cannot_turn_in_pairs() -> None:
    with pytest.raises(SpecError, match="'d' has 3 units, which cannot turn in pairs"):
        Symmetry(parse_spec('[kinds]\nd = "rotary"\n[axes]\nw = "2*d"'), {"w": (6,)})


def test_gradients_pass_through_turns() -> None:
    g = BOUND.random(seeded(0))
    matrix = g.turn["qk"].matrix.requires_grad_()
    BOUND.act(g, "fused", drawn(0)["fused"]).square().sum().backward()
    assert matrix.grad is not None
    assert float(matrix.grad.abs().sum()) > 0
