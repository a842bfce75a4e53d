"""The action and the rows against loops over single entries."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from deepalign_cli.errors import SpecError
from deepalign_cli.symmetry.axes import Atom, Axis
from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.kinds import PERMUTATION, SCALE, SIGN, SIGNED_SCALE
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from tests.symmetry.builders import seeded

TEXT = """
[axes]
plain = "+k 3 -h"
product = "2*+k*3 h*2*-p"
sum = "-k|2|+k|h*2 2"
twice = "+k -k"
thrice = "k|h +k h|p"
free = "3 2"
bare = "k"
fused = "h*(k|p|2) 3"
deep = "2*(~w|2*(+u|~-s)) -u*(p|2)"
marks = "+h*(-k|~+s|~w|+s|s) ~-s|+w"
inner = "(+k|-h)*(p|2)|(~s|+u) ~-w"
[kinds]
k = "scale"
h = "sign"
s = "signed scale"
u = "signed scale"
w = "sign"
[sizes]
s = 3
u = 2
w = 2
"""
TILDED = {"s", "w"}  # the groups of which an axis has a ~
SHAPES = {
    "plain": (4, 3, 3), "product": (24, 12), "sum": (16, 2), "twice": (4, 4), "thrice": (7, 4, 5),
    "free": (3, 2), "bare": (4,), "fused": (3 * 8, 3), "deep": (2 * (2 + 2 * 5), 2 * 4),
    "marks": (3 * 15, 5), "inner": (7 * 4 + 5, 2),
}  # fmt: skip
SYMMETRY = Symmetry(parse_spec(TEXT), SHAPES)


def entries(axis: Axis) -> list[tuple[object, list[tuple[Atom, int]]]]:
    """For every index of an axis: the path to it through the sums, and the atoms with their units."""
    out: list[tuple[object, list[tuple[Atom, int]]]] = []
    for number, term in enumerate(axis.terms):
        for combined in itertools.product(*map(factor_entries, term)):
            path = (number, *(part for part, _ in combined))
            out.append((path, [pair for _, pairs in combined for pair in pairs]))
    return out


def factor_entries(factor: Atom | Axis) -> list[tuple[object, list[tuple[Atom, int]]]]:
    if isinstance(factor, Axis):
        return entries(factor)
    size = SYMMETRY.sizes[factor.name] if factor.name else factor.size
    return [((), [(factor, i)]) for i in range(size)]


def power(mark: str, group: str, scale: float) -> float:
    """|c|^e sgn(c)^f, as the guide says."""
    size = abs(scale) ** {"+": 1, "-": -1}.get(mark[-1:], 0)
    turns = "~" in mark if group in TILDED else bool(mark)
    return size * math.copysign(1.0, scale) if turns else size


def slowly_acted(g: Element, name: str, w: Tensor) -> Tensor:
    axes = [entries(axis) for axis in SYMMETRY.spec.axes[name]]
    out = torch.empty_like(w)
    for index in itertools.product(*map(range, w.shape)):
        source, factor = [], 1.0
        for axis, i in zip(axes, index, strict=True):
            path, atoms = axis[i]
            wanted = (path, [(a, int(g.perm[a.name][u]) if a.name in g.perm else u) for a, u in atoms])
            source.append(axis.index(wanted))
            for atom, unit in atoms:
                if atom.mark and atom.name in g.scale:
                    factor *= power(atom.mark, atom.name, float(g.scale[atom.name][unit]))
        out[index] = w[tuple(source)] * factor
    return out


def slow_rows(group: str, name: str, w: Tensor) -> list[dict[object, float]]:
    """For every unit its entries by where they stand otherwise."""
    rows: list[dict[object, float]] = [{} for _ in range(SYMMETRY.sizes[group])]
    axes = [entries(axis) for axis in SYMMETRY.spec.axes[name]]
    for index in itertools.product(*map(range, w.shape)):
        for number, i in enumerate(index):
            path, atoms = axes[number][i]
            for atom, unit in atoms:
                if atom.name == group:
                    rest = [pair for pair in atoms if pair[0].name != group]
                    where = (number, path, str(rest), index[:number], index[number + 1 :])
                    rows[unit][where] = float(w[index])
    return rows


def drawn(name: str, seed: int = 0) -> Tensor:
    return torch.randn(SHAPES[name], generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", SHAPES)
def test_the_action_is_that_of_a_loop_over_entries(name: str) -> None:
    w = drawn(name) if name in SYMMETRY.spec.axes else torch.ones(1)
    for seed in range(3):
        g = SYMMETRY.random(seeded(seed))
        for part in (g, SYMMETRY.only(g, ["k"]), Element({}, g.scale), Element(g.perm)):
            assert torch.allclose(SYMMETRY.act(part, name, w), slowly_acted(part, name, w), rtol=1e-14)


@pytest.mark.parametrize("name", SHAPES)
def test_gains_from_rows_are_those_of_a_loop_over_entries(name: str) -> None:
    a, b = drawn(name, 1), drawn(name, 2)
    for group in SYMMETRY.groups_of(name):
        slow = [slow_rows(group, name, w) for w in (a, b)]
        wanted = [[math.fsum(left[x] * right[x] for x in left) for right in slow[1]] for left in slow[0]]
        gain = SYMMETRY.rows(group, name, a) @ SYMMETRY.rows(group, name, b).T
        assert torch.allclose(gain, torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_an_untouched_tensor_is_not_copied() -> None:
    g, w = SYMMETRY.random(seeded(0)), drawn("free")
    assert SYMMETRY.act(g, "free", w) is w
    assert SYMMETRY.act(g, "in no spec", w) is w
    assert SYMMETRY.act(Element({}), "plain", drawn("plain")).equal(drawn("plain"))
    assert not SYMMETRY.moves("free")
    assert SYMMETRY.groups_of("thrice") == ("k", "h", "p")


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.int64, torch.bool]
)
def test_permuting_is_exact_in_every_type(dtype: torch.dtype) -> None:
    bits = torch.randint(0, 2, (24, 12), generator=seeded(0), dtype=torch.int64)
    width = torch.empty(0, dtype=dtype).element_size()
    view = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[width]
    if dtype is not torch.bool:  # any bits at all, NaN among them
        info = torch.iinfo(view)
        bits = torch.randint(info.min, info.max, (24, 12), generator=seeded(0), dtype=torch.int64)
    bits = bits.to(view)
    g = Element(SYMMETRY.random(seeded(1)).perm)
    moved = SYMMETRY.act(g, "product", bits.view(dtype))
    assert moved.dtype == dtype
    assert torch.equal(moved.view(view), SYMMETRY.act(g, "product", bits))
    assert not torch.equal(moved.view(view), bits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scaling_a_half_type_rounds_once(dtype: torch.dtype) -> None:
    # Scales of few bits: both products are exact in float32, and only the last rounding is left.
    symmetry = Symmetry(parse_spec('[axes]\nw = "+k +h"\n[kinds]\nk = "scale"\nh = "scale"'), {"w": (64, 64)})
    draws = [torch.randint(9, 16, (64,), generator=seeded(i)).double() / 8 for i in range(2)]
    w = torch.randn(64, 64, generator=seeded(2)).to(dtype)
    exact = w.double() * draws[0][:, None] * draws[1]
    scaled = symmetry.act(Element({}, {"k": draws[0], "h": draws[1]}), "w", w)
    assert scaled.dtype == dtype
    assert torch.equal(scaled, exact.to(dtype))
    assert not torch.equal(((w * draws[0].to(dtype)[:, None]) * draws[1].to(dtype)), exact.to(dtype))


def test_integers_cannot_be_scaled() -> None:
    with pytest.raises(SpecError, match=r"'plain' holds torch\.int64 and cannot be scaled"):
        SYMMETRY.act(SYMMETRY.random(seeded(0)), "plain", torch.ones(SHAPES["plain"], dtype=torch.int64))


def test_random_elements_follow_the_kinds_and_the_seed() -> None:
    g, h = SYMMETRY.random(seeded(0)), SYMMETRY.random(seeded(0))
    assert {k: sorted(p.tolist()) for k, p in g.perm.items()} == {
        k: list(range(n)) for k, n in SYMMETRY.sizes.items()
    }
    assert g.scale.keys() == {"k", "h", "s", "u", "w"}
    assert set(g.scale["h"].tolist()) <= {-1.0, 1.0}
    assert bool(((g.scale["k"] >= 0.5) & (g.scale["k"] <= 2)).all())
    assert all(torch.equal(g.perm[k], h.perm[k]) for k in g.perm)
    assert SYMMETRY.kinds == {
        "k": SCALE, "h": SIGN, "p": PERMUTATION, "w": SIGN, "u": SIGNED_SCALE, "s": SIGNED_SCALE,
    }  # fmt: skip


def test_places_say_what_a_units_scale_does_as_far_as_its_kind_goes() -> None:
    said = {
        (o.name, o.axis, group): (o.exponent, o.flips)
        for group in ("k", "h", "s", "w")
        for o in SYMMETRY.occurrences[group]
        if o.name in ("plain", "deep", "marks")
    }
    assert said["plain", 0, "k"] == (1, False)
    assert said["plain", 2, "h"] == (0, True)
    assert said["deep", 0, "s"] == (-1, True)
    assert said["deep", 0, "w"] == (0, True)
    assert said["marks", 1, "w"] == (0, False)
    in_marks = [(o.exponent, o.flips) for o in SYMMETRY.occurrences["s"] if (o.name, o.axis) == ("marks", 0)]
    assert in_marks == [(1, True), (1, False), (0, False)]
