from __future__ import annotations

import pytest
import torch

from deepalign_cli.errors import DataError
from deepalign_cli.models.slopes import slopes


def test_what_does_not_matter_has_a_slope_of_zero() -> None:
    x, y = torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(3, requires_grad=True)
    of_x, of_y = slopes(x.square().sum(), [x, y])
    assert of_x.tolist() == [2.0, 4.0]
    assert of_y.tolist() == [0.0, 0.0, 0.0]


def test_what_has_no_gradients_is_told_in_a_sentence() -> None:
    x = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        without = x.sum()
    with pytest.raises(DataError, match="no gradients can be taken of the loss"):
        slopes(without, [x])
    changed = torch.sigmoid(x)
    changed.mul_(2)
    with pytest.raises(DataError, match="inplace"):
        slopes(changed.sum(), [x])
