from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.vocabulary.token_rows import TokenRows

ROWS = torch.tensor([[0, 1, 2, -1, -1], [1, -1, -1, 0, 2], [0, 1, -1, -1, 3]])


def networks(*shape: int, axis: int = 0) -> list[Tensor]:
    parts = []
    for place, rows in enumerate(ROWS):
        w = torch.randn(5, *shape, generator=torch.Generator().manual_seed(place), dtype=torch.float64)
        w[rows < 0] = 0
        parts.append(w.movedim(0, axis))
    return parts


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_mean_is_lent(shape: tuple[int, ...]) -> None:
    a, b, c = networks(*shape)
    lent = TokenRows({"w": 0}, ROWS, first_lends=False).lent("w", [a, b, c])
    assert lent[0][3].equal(b[3])
    assert torch.allclose(lent[0][4], (b[4] + c[4]) / 2)
    assert torch.allclose(lent[1][1], (a[1] + c[1]) / 2)
    assert lent[2][2].equal(a[2])
    assert all(one[0].equal(w[0]) for one, w in zip(lent, (a, b, c), strict=True))


def test_the_first_ones_row_is_lent_where_it_has_one() -> None:
    a, b, c = networks(3)
    lent = TokenRows({"w": 0}, ROWS, first_lends=True).lent("w", [a, b, c])
    assert lent[1][1].equal(a[1])
    assert torch.allclose(lent[0][4], (b[4] + c[4]) / 2)


def test_what_one_network_alone_has_stays_as_it_is() -> None:
    parts = networks(3)
    rows = TokenRows({"w": 0}, ROWS, first_lends=False)
    made = torch.full_like(parts[0], 7)
    after = rows.restored("w", made, parts)
    assert after[2].equal(parts[0][2])
    assert after[3].equal(parts[1][3])
    assert after[[0, 1, 4]].eq(7).all()
    assert made.eq(7).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_pieces_are_the_whole(axis: int) -> None:
    parts, rows = networks(3, axis=axis), TokenRows({"w": axis}, ROWS, first_lends=False)
    whole = rows.restored("w", torch.ones_like(parts[0]), parts)
    assert whole.movedim(axis, 0)[2].equal(parts[0].movedim(axis, 0)[2])
    if axis == 0:
        for start, stop in ((0, 2), (2, 5), (1, 4)):
            cut = [w[start:stop] for w in parts]
            assert rows.restored("w", torch.ones_like(cut[0]), cut, start).equal(whole[start:stop])
            lent = rows.lent("w", parts)
            assert all(x.equal(y[start:stop]) for x, y in zip(rows.lent("w", cut, start), lent, strict=True))


def test_half_types_are_widened_only_where_a_row_is_lent() -> None:
    parts = [w.bfloat16() for w in networks(3)]
    rows = TokenRows({"w": 0}, ROWS, first_lends=False)
    assert {w.dtype for w in rows.lent("w", [w[:1] for w in parts])} == {torch.bfloat16}
    assert {w.dtype for w in rows.lent("w", parts)} == {torch.float32}
