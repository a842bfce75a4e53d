"""Every kind of rotation: its nearest matrix is of the kind, and none of the kind is nearer."""

from __future__ import annotations

import pytest
import torch

from deepalign_cli.symmetry.kinds import CENTRED, HALF_TURNS, NEIGHBOURS, ORTHOGONAL, ROTARY, SORTED, Kind
from deepalign_cli.symmetry.turns import (
    Turn,
    centred_polar,
    half_turns,
    is_rotation,
    nearest_order,
    neighbour_planar,
    planar,
    polar,
    random_rotations,
)
from tests.symmetry.builders import seeded
from tests.turning_nets import rotated, rotated_neighbours

CASES = [
    (ORTHOGONAL, 1), (ORTHOGONAL, 5), (CENTRED, 1), (CENTRED, 2), (CENTRED, 6), (ROTARY, 2), (ROTARY, 6),
    (NEIGHBOURS, 2), (NEIGHBOURS, 6), (HALF_TURNS, 2), (HALF_TURNS, 6), (SORTED, 1), (SORTED, 4),
]  # fmt: skip
each = pytest.mark.parametrize(("kind", "n"), CASES, ids=lambda value: str(value))


def gaussian(n: int, m: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(m, n, n, generator=seeded(seed), dtype=torch.float64)


@each
def test_random_ones_are_of_the_kind(kind: Kind, n: int) -> None:
    q = random_rotations(kind.nearest, 4, n, seeded(1))
    assert q.shape == (4, n, n)
    assert is_rotation(kind.nearest, q)
    assert is_rotation(kind.nearest, q.mT.contiguous())  # inverses are, too
    assert is_rotation(kind.nearest, q[:1] @ q[1:2])  # and products


@each
def test_the_nearest_is_its_own_nearest(kind: Kind, n: int) -> None:
    q = kind.nearest(gaussian(n))
    assert is_rotation(kind.nearest, q)
    assert float((kind.nearest(q) - q).abs().max()) < 1e-12


@each
def test_no_other_of_the_kind_is_nearer(kind: Kind, n: int) -> None:
    c = gaussian(n)
    best = (kind.nearest(c) * c).sum((1, 2))
    others = random_rotations(kind.nearest, 200, n, seeded(2))
    close = kind.nearest(kind.nearest(c) + 0.05 * gaussian(n, seed=3))
    for q in (*others, *close):
        assert bool(((q * c).sum((1, 2)) <= best + 1e-12).all())


@each
def test_of_nothing_some_matrix_of_the_kind_is_nearest(kind: Kind, n: int) -> None:
    assert is_rotation(kind.nearest, kind.nearest(torch.zeros(2, n, n, dtype=torch.float64)))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_centred_ones_keep_the_mean_and_commute_with_layer_norm(n: int) -> None:
    q = centred_polar(gaussian(n))
    ones = torch.ones(n, dtype=torch.float64)
    assert torch.allclose(q @ ones, ones.expand(3, n), atol=1e-12)
    x = torch.randn(n, 4, generator=seeded(5), dtype=torch.float64)
    norm = torch.nn.functional.layer_norm
    for one in q:
        assert torch.allclose(norm((one @ x).T, (n,)), norm(x.T, (n,)) @ one.T, atol=1e-9)


def test_orthogonal_ones_do_not_keep_the_mean() -> None:
    q = polar(gaussian(5))
    assert not is_rotation(centred_polar, q)
    assert not is_rotation(planar, polar(gaussian(6)))


def test_planar_ones_commute_with_rotary_positions() -> None:
    q = planar(gaussian(6, m=1))[0]
    x = torch.randn(1, 1, 5, 6, generator=seeded(6), dtype=torch.float64)
    assert torch.allclose(rotated(x @ q.T), rotated(x) @ q.T, atol=1e-12)
    other = polar(gaussian(6, m=1))[0]
    assert not torch.allclose(rotated(x @ other.T), rotated(x) @ other.T, atol=1e-2)


def test_those_of_neighbours_commute_with_rotary_positions_of_neighbours() -> None:
    q = neighbour_planar(gaussian(6, m=1))[0]
    x = torch.randn(1, 1, 5, 6, generator=seeded(6), dtype=torch.float64)
    assert torch.allclose(rotated_neighbours(x @ q.T), rotated_neighbours(x) @ q.T, atol=1e-12)
    assert not torch.allclose(rotated(x @ q.T), rotated(x) @ q.T, atol=1e-2)


def test_half_turns_commute_with_rotary_positions_and_any_gain() -> None:
    q = half_turns(gaussian(6, m=1))[0]
    x, gain = (torch.randn(1, 1, 5, 6, generator=seeded(s), dtype=torch.float64) for s in (6, 7))
    assert torch.allclose(rotated(gain * (x @ q.T)), rotated(gain * x) @ q.T, atol=1e-12)
    assert {-1.0, 1.0} == {*q.diagonal().tolist()}


def test_orders_are_permutations() -> None:
    q = nearest_order(gaussian(4))
    assert bool(((q == 0) | (q == 1)).all())
    assert torch.equal(q.sum(1), torch.ones(3, 4).double())


def test_what_is_no_rotation() -> None:
    eye = torch.eye(3, dtype=torch.float64)[None]
    assert is_rotation(polar, eye)
    assert not is_rotation(polar, eye.float())  # not in full precision
    assert not is_rotation(polar, 1.001 * eye)
    assert not is_rotation(polar, torch.full_like(eye, torch.nan))
    assert not is_rotation(polar, eye + torch.full_like(eye, 1e-6))


def test_turns_compose_and_follow_their_heads() -> None:
    first, second = (random_rotations(polar, 3, 4, seeded(seed)) for seed in (7, 8))
    product = Turn(second, "h") @ Turn(first, "h")
    assert torch.allclose(product.matrix, second @ first)
    assert product.within == "h"
    perm = torch.tensor([2, 0, 1])
    assert torch.equal(Turn(first, "h").moved_by(perm).matrix, first[perm])
    assert Turn(first, "h").moved_by(None).matrix is first
    assert torch.allclose(
        (Turn(first).transposed @ Turn(first)).matrix, torch.eye(4).double().expand(3, 4, 4)
    )


def test_units_that_turn_in_any_head_are_counted() -> None:
    matrix = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    assert Turn(matrix).moved == 0
    matrix[1, :2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    assert Turn(matrix).moved == 2
    assert Turn(matrix + 1e-9).moved == 2  # rounding is no turn
