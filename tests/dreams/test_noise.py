import pytest
import torch

from deepalign_cli.dreams.noise import pink_noise


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("shape", [(5,), (784,), (3, 32, 32), (2, 40), (1, 6, 8, 8), ()])
def test_every_input_has_variance_one(shape: tuple[int, ...]) -> None:
    x = pink_noise(shape, 64, _rng())

    assert x.shape == (64, *shape)
    assert x.isfinite().all()
    assert abs(float(x.std()) - 1) < 0.1


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,), (3, 256)])
def test_neighbours_are_alike(shape: tuple[int, ...]) -> None:
    x = pink_noise(shape, 64, _rng()).reshape(64, -1, 28 if 784 in shape or 28 in shape else 256)

    assert float((x[..., 1:] * x[..., :-1]).mean()) > 0.5


def test_rows_of_other_numbers_are_white() -> None:
    x = pink_noise((50,), 200, _rng())

    assert abs(float((x[:, 1:] * x[:, :-1]).mean())) < 0.05


def test_noise_is_that_of_its_seed_and_type() -> None:
    first, again = (pink_noise((1, 8, 8), 3, _rng(), torch.float64) for _ in range(2))

    assert first.dtype == torch.float64
    assert torch.equal(first, again)
