from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.network.sketches import Sketches
from deepalign_cli.network.waves import sketch

LIKE = torch.empty(0, dtype=torch.float64)
SEEDS = [3, 1, 4, 5]


def flat(sketches: Sketches, labels: int, waves: int = 1, channels: int = 16) -> Tensor:
    """One matrix a sketch: its places by its columns."""
    z = sketches(labels, waves, channels, LIKE)
    return z.permute(2, 0, 1, 3).reshape(len(sketches), labels * waves, channels)


def test_by_default_each_is_the_sketch_of_its_seed() -> None:
    z = Sketches(SEEDS)(10, 9, 16, LIKE)
    assert z.shape == (10, 9, 4, 16)
    assert all(torch.equal(z[:, :, i], sketch(seed, 10, 9, 16, LIKE)) for i, seed in enumerate(SEEDS))


@pytest.mark.parametrize("orthogonal", [False, True])
def test_a_part_is_what_the_whole_has_there_whatever_was_drawn_before(orthogonal: bool) -> None:
    whole = Sketches(SEEDS, orthogonal=orthogonal)
    first = Sketches(SEEDS, orthogonal=orthogonal).part(0, 1)
    assert len(whole.part(1, 3)) == 2
    assert torch.equal(flat(whole.part(1, 3), 50), flat(whole, 50)[1:3])
    assert torch.equal(flat(first, 50), flat(whole, 50)[:1])


def test_columns_are_at_right_angles_as_far_as_there_is_room() -> None:
    z = flat(Sketches(SEEDS, orthogonal=True), 50)  # room for the columns of three
    columns = z[:3].movedim(0, 1).flatten(1)
    assert torch.allclose(columns.T @ columns / 50, torch.eye(48, dtype=torch.float64), atol=1e-5)
    assert torch.allclose(z[3].T @ z[3] / 50, torch.eye(16, dtype=torch.float64), atol=1e-5)
    assert float((z[3].T @ z[0]).abs().max()) > 1


@pytest.mark.parametrize(("labels", "waves"), [(10, 1), (1, 9)])
def test_a_sketch_of_few_places_keeps_inner_products(labels: int, waves: int) -> None:
    for z in flat(Sketches(SEEDS, orthogonal=True), labels, waves):
        assert torch.allclose(z @ z.T / 16, torch.eye(labels * waves, dtype=torch.float64), atol=1e-5)


def test_smooth_columns_stay_smooth() -> None:
    plain, straight = (flat(Sketches(SEEDS, orthogonal=o), 784) for o in (False, True))
    assert torch.equal(plain[:, :, 8:], straight[:, :, 8:])
    assert not torch.allclose(plain[:, :, :8], straight[:, :, :8], atol=0.1)
    assert torch.allclose(straight.square().mean(1)[:, :8], torch.ones(4, 8, dtype=torch.float64), atol=1e-5)
