"""Gains of norms, taken into the layers behind them and given back: the function stays, in every type."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.errors import MismatchError, SpecError
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.norm_gains import NormGains, steadied
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import seeded

TEXT = """
[kinds]
s = "orthogonal"
[gains]
"norm.weight" = ["norm.bias", "read.weight"]
[axes]
"write.weight" = "s 3"
"norm.bias" = "s"
"read.weight" = "4 s"
"""
SHAPES = {
    "write.weight": (5, 3),
    "norm.weight": (5,),
    "norm.bias": (5,),
    "read.weight": (4, 5),
    "read.bias": (4,),
}
SYMMETRY = Symmetry(parse_spec(TEXT), SHAPES)


ONE_MORE = Symmetry(parse_spec(f'plus_one = ["norm.weight"]\n{TEXT}'), SHAPES)


def weights(seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    rng = seeded(seed)
    drawn = {n: torch.randn(s, generator=rng, dtype=torch.float64) for n, s in SHAPES.items()}
    drawn["norm.weight"] = drawn["norm.weight"].sign() * (0.5 + drawn["norm.weight"].abs())
    return {name: w.to(dtype) for name, w in drawn.items()}


def run(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """A stream, a norm without its mean, and a reader."""
    x = x @ w["write.weight"].T
    x = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return (x * w["norm.weight"] + w["norm.bias"]) @ w["read.weight"].T + w["read.bias"]


X = torch.randn(6, 3, generator=seeded(9), dtype=torch.float64)


def test_gains_that_are_taken_in_leave_the_function_and_are_given_back() -> None:
    w = weights()
    without = SYMMETRY.without_gains(w)
    bare = SYMMETRY.apply(without, w)
    assert bare["norm.weight"].tolist() == [1.0] * 5
    assert not torch.allclose(bare["read.weight"], w["read.weight"])
    assert torch.allclose(run(bare, X), run(w, X), atol=1e-12)
    back = SYMMETRY.apply(without.inverse(), bare)
    assert all(torch.allclose(back[name], w[name], atol=1e-14) for name in w)
    assert torch.equal(back["norm.weight"], w["norm.weight"])


def test_a_turned_network_with_the_gains_of_another_computes_the_same() -> None:
    a, b = weights(0), weights(1)
    g = SYMMETRY.without_gains(a).inverse() @ SYMMETRY.random(seeded(2)) @ SYMMETRY.without_gains(b)
    moved = SYMMETRY.apply(g, b)
    assert torch.equal(moved["norm.weight"], a["norm.weight"])
    assert g.moved("s") == 5
    assert torch.allclose(run(moved, X), run(b, X), atol=1e-12)
    back = SYMMETRY.apply(g.inverse(), moved)
    assert all(torch.allclose(back[name], b[name], atol=1e-12) for name in b)
    assert torch.equal(back["norm.weight"], b["norm.weight"])


def less_one(w: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**w, "norm.weight": w["norm.weight"] - 1}


def test_where_a_norm_adds_one_the_sum_is_the_gain() -> None:
    a, b = (less_one(weights(seed)) for seed in (0, 1))
    assert torch.equal(ONE_MORE.without_gains(a).enter["norm.weight"], a["norm.weight"] + 1)
    bare = ONE_MORE.apply(ONE_MORE.without_gains(a), a)
    assert bare["norm.weight"].tolist() == [0.0] * 5
    g = ONE_MORE.without_gains(a).inverse() @ ONE_MORE.random(seeded(2)) @ ONE_MORE.without_gains(b)
    moved, old = ONE_MORE.apply(g, b), weights(1)
    assert torch.allclose(moved["norm.weight"], a["norm.weight"], atol=1e-15)
    grown = {**moved, "norm.weight": moved["norm.weight"] + 1}
    assert torch.allclose(run(grown, X), run(old, X), atol=1e-12)
    single = ONE_MORE.apply(g, {name: w.float() for name, w in b.items()})
    assert torch.equal(single["norm.weight"], a["norm.weight"].float())


def test_a_gain_of_one_and_minus_one_is_refused() -> None:
    w = less_one(weights())
    w["norm.weight"][2] = -1.0
    with pytest.raises(MismatchError, match=r"the gain 'norm.weight' is as small as 0"):
        ONE_MORE.without_gains(w)
    steady = steadied(ONE_MORE.spec, ONE_MORE.norms, w, "B")
    assert (steady.gains, steady.plus_one) == ({}, frozenset())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_narrow_types_are_rounded_once(dtype: torch.dtype) -> None:
    a, b = weights(0, dtype), weights(1, dtype)
    g = SYMMETRY.without_gains(a).inverse() @ SYMMETRY.random(seeded(2)) @ SYMMETRY.without_gains(b)
    moved = SYMMETRY.apply(g, b)
    assert {w.dtype for w in moved.values()} == {dtype}
    assert torch.equal(moved["norm.weight"], a["norm.weight"])
    wide = SYMMETRY.apply(g, {name: w.double() for name, w in b.items()})
    for name, w in moved.items():
        limit = max(torch.finfo(dtype).eps, 8e-7) * float(wide[name].abs().max())
        assert float((w.double() - wide[name]).abs().max()) <= limit


@pytest.mark.parametrize("smallest", [0.0, 1e-5, -1e-5, float("nan")])
def test_a_gain_that_would_lose_digits_is_refused_by_its_name(smallest: float) -> None:
    w = weights()
    w["norm.weight"][2] = smallest
    with pytest.raises(MismatchError, match=r"the gain 'norm.weight' is as small as") as caught:
        SYMMETRY.without_gains(w)
    assert "another method" in caught.value.hint


def test_a_stream_behind_a_gain_of_nothing_permutes_in_the_place_of_turning() -> None:
    w, spec = weights(), SYMMETRY.spec
    assert steadied(spec, SYMMETRY.norms, w, "B") is spec
    w["norm.weight"][2] = 0.0
    steady = steadied(spec, SYMMETRY.norms, w, "B")
    assert (steady.kinds, steady.gains) == ({}, {})
    assert steady.stays[-1] == "s only permutes: the gain 'norm.weight' of B is as small as 0"
    symmetry = Symmetry(steady, SHAPES)
    g = symmetry.random(seeded(1))
    assert g.moved("s")
    assert torch.allclose(run(symmetry.apply(g, w), X), run(w, X), atol=1e-12)


def test_gains_that_are_all_small_are_fine() -> None:
    w = weights()
    w["norm.weight"] *= 1e-6
    without = SYMMETRY.without_gains(w)
    assert torch.allclose(run(SYMMETRY.apply(without, w), X), run(w, X), atol=1e-12)


def test_a_reader_that_writes_into_a_stream_of_the_same_size_is_divided_where_it_reads() -> None:
    text = TEXT.replace('"read.weight" = "4 s"', '"read.weight" = "s s"')
    shapes = {**SHAPES, "read.weight": (5, 5)}
    symmetry = Symmetry(parse_spec(text), shapes)
    w = {n: torch.rand(s, generator=seeded(3), dtype=torch.float64) + 0.5 for n, s in shapes.items()}
    bare = symmetry.apply(symmetry.without_gains(w), w)
    assert torch.allclose(bare["read.weight"], w["read.weight"] * w["norm.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"norm.weight" = [', '"lost" = ['), "the gain 'lost' of the spec is no vector of the checkpoint"),
        (('"norm.weight" = [', '"read.weight" = ['), "the gain 'read.weight' of the spec is no vector"),
        (('"norm.bias", "read.weight"]', '"read.bias"]'), "no axis of 'read.bias' carries the stream"),
        (('"norm.bias", "read.weight"]', '"lost"]'), "no axis of 'lost' carries the stream"),
        (("orthogonal", "permutation"), "no axis of 'norm.bias' carries the stream"),
        (('"read.weight" = "4 s"', '"read.weight" = "4 5"'), "no axis of 'read.weight' carries the stream"),
        (('["norm.bias", "read.weight"]', "[]"), "the gain 'norm.weight' of the spec has no tensor"),
    ],
)  # fmt: skip
def test_a_spec_whose_gains_are_wrong_is_refused(change: tuple[str, str], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Symmetry(parse_spec(TEXT.replace(*change)), SHAPES)


def test_a_spec_without_gains_has_none() -> None:
    spec = parse_spec('[axes]\na = "k"')
    assert NormGains(spec, {"a": (3,)}).of({"a": torch.ones(3)}) == {}
    assert Symmetry(spec, {"a": (3,)}).without_gains({"a": torch.ones(3)}) == Element({})
