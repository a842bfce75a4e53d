"""Rows that may be images, and noise with the spectrum of images."""

import doctest

import pytest
import torch

from deepalign_cli import images
from deepalign_cli.images import image_shape, pink


@pytest.mark.parametrize(
    ("values", "shape"),
    [(49, (1, 7, 7)), (147, (3, 7, 7)), (36, None), (108, None), (2 * 49, None), (148, None)],
)
def test_square_images_of_one_or_three_colours_are_known(
    values: int, shape: tuple[int, int, int] | None
) -> None:
    assert image_shape(values) == shape


def test_the_example_in_its_docstring_is_true() -> None:
    results = doctest.testmod(images)
    assert results.attempted
    assert not results.failed


@pytest.mark.parametrize("places", [(16,), (16, 12)])
def test_a_wave_falls_as_one_over_its_frequency(places: tuple[int, ...]) -> None:
    line = torch.arange(16, dtype=torch.float64)
    for k in (1, 4):
        wave = torch.cos(2 * torch.pi * k * line / 16).reshape(-1, *[1] * (len(places) - 1)).expand(places)
        torch.testing.assert_close(pink(wave[None], len(places)), wave[None] * 16 / k)


def test_the_mean_falls_as_the_lowest_wave_does() -> None:
    torch.testing.assert_close(pink(torch.ones(2, 3, 8, 8), 2), torch.full((2, 3, 8, 8), 8.0))
