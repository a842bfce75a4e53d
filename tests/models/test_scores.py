from __future__ import annotations

import pytest
import torch

from deepalign_cli.models.scores import are_scores

TOKENS, IMAGES = torch.tensor([[0, 6, 2]]), torch.zeros(1, 3, 8, 8)


@pytest.mark.parametrize(
    ("x", "shape", "expected"),
    [
        (IMAGES, (1, 10), True),
        (IMAGES, (1, 1), False),
        (IMAGES, (1,), False),
        (IMAGES, (1, 4, 8, 8), False),
        (torch.zeros(1, 4, 32), (1, 3, 32), False),  # channels by times
        (TOKENS, (1, 5), True),
        (TOKENS, (1, 3, 7), True),  # a score for each of 7 tokens
        (TOKENS, (1, 3, 6), False),  # features
        (TOKENS[:, :0], (1, 0, 6), False),
    ],
)
def test_scores_are_told_by_their_shape(x: torch.Tensor, shape: tuple[int, ...], expected: bool) -> None:
    assert are_scores(x, torch.zeros(shape)) is expected
