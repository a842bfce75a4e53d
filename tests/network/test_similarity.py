from __future__ import annotations

import torch

from deepalign_cli.network.similarity import directions, similarities
from tests.symmetry.builders import seeded


def features(seed: int, batch: int = 2, n: int = 5, c: int = 7) -> torch.Tensor:
    return torch.randn(batch, n, c, generator=seeded(seed), dtype=torch.float64)


def test_an_entry_is_the_cosine_of_two_units_features_less_the_mean() -> None:
    a, b = features(1), features(2)
    found = similarities({"k": a}, {"k": b})["k"]
    for k in range(2):
        x, y = a[k] - a[k].mean(0), b[k] - b[k].mean(0)
        expected = torch.nn.functional.cosine_similarity(x[:, None], y[None], dim=2)
        assert torch.allclose(found[k], expected, atol=1e-12)


def test_a_network_is_most_like_itself() -> None:
    found = similarities({"k": features(1)}, {"k": features(1)})["k"]
    assert torch.allclose(found.diagonal(dim1=1, dim2=2), torch.ones(2, 5, dtype=torch.float64))
    assert bool((found <= 1 + 1e-12).all())


def test_neither_a_common_shift_nor_a_units_length_is_seen() -> None:
    a, b = features(1), features(2)
    shifted = 3 * a + features(3)[:, :1]
    before, after = (similarities({"k": x}, {"k": b})["k"] for x in (a, shifted))
    assert torch.allclose(before, after, atol=1e-12)


def test_units_that_are_all_alike_have_no_direction() -> None:
    assert torch.equal(directions(torch.ones(1, 4, 3)), torch.zeros(1, 4, 3))
    assert torch.equal(directions(features(1)[:, :1]), torch.zeros(2, 1, 7, dtype=torch.float64))
