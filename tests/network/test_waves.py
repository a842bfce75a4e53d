from __future__ import annotations

import pytest
import torch

from deepalign_cli.network.waves import WAVES, grid_basis, sketch
from tests.symmetry.builders import seeded

LIKE = torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("grid", "waves"),
    [
        ((), 1), ((1,), 1), ((1, 1), 1), ((2,), 2), ((2, 2), 4), ((3,), 3), ((3, 3), 9), ((1, 3), 3),
        ((5, 5), 9), ((7, 7), 9), ((3, 4), 9), ((2, 2, 2), 8), ((16,), 9),
    ],
)  # fmt: skip
def test_the_waves_are_orthonormal_and_begin_with_the_mean(grid: tuple[int, ...], waves: int) -> None:
    basis = grid_basis(grid)
    places = torch.Size(grid).numel()
    assert basis.shape == (places, waves)
    assert waves == min(places, WAVES)
    assert torch.allclose(basis.T @ basis, torch.eye(waves, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(basis[:, 0], torch.full((places,), places**-0.5, dtype=torch.float64))


def test_waves_rise_in_frequency() -> None:
    basis = grid_basis((5, 5)).reshape(5, 5, WAVES)
    roughness = basis.diff(dim=0).square().sum((0, 1)) + basis.diff(dim=1).square().sum((0, 1))
    lowest_two = roughness[1:3]
    assert float(roughness[0]) < 1e-20
    assert torch.allclose(lowest_two, lowest_two[0].expand(2))  # one along each axis
    assert bool((roughness[3:] > lowest_two[0] + 1e-9).all())


def test_an_axis_of_one_place_changes_nothing() -> None:
    assert torch.equal(grid_basis((1, 3, 1, 3)), grid_basis((3, 3)))


def test_a_sketch_is_a_function_of_the_seed_and_the_extents() -> None:
    first = sketch(3, 10, 9, 16, LIKE)
    torch.manual_seed(99)
    assert first.shape == (10, 9, 16)
    assert torch.equal(first, sketch(3, 10, 9, 16, LIKE))
    assert torch.equal(first.float(), sketch(3, 10, 9, 16, LIKE.float()))
    for other in (sketch(4, 10, 9, 16, LIKE), sketch(3, 11, 9, 16, LIKE)[:10]):
        assert float((first - other).abs().mean()) > 0.5


def test_drawing_a_sketch_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    sketch(3, 10, 9, 16, LIKE)
    assert torch.equal(before, torch.get_rng_state())


def test_sketches_keep_inner_products() -> None:
    channels = 4096
    rows = torch.randn(6, 20, generator=seeded(1), dtype=torch.float64)
    seen = rows @ sketch(5, 20, 1, channels, LIKE)[:, 0] / channels**0.5
    lengths = rows.norm(dim=1)
    error = (seen @ seen.T - rows @ rows.T) / (lengths[:, None] * lengths)
    assert float(error.abs().max()) < 6 * channels**-0.5
