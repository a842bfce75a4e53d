from __future__ import annotations

import torch

from deepalign_cli.combiners.consensus import agreed, agreeing

# Entries: all agree, the larger one wins, they cancel out, one has no sign, none has.
VECTORS = torch.tensor([[1.0, -2.0, 3.0, 0.0, 0.0], [2.0, 1.0, -3.0, -4.0, 0.0]])


def test_entries_agree_that_have_the_sign_of_the_sum_and_0_is_positive() -> None:
    assert agreeing(VECTORS).int().tolist() == [[1, 1, 1, 0, 0], [1, 0, 0, 1, 0]]


def test_those_that_agree_are_summed_or_averaged() -> None:
    assert agreed(VECTORS, [1, 1], [1, 1], mean=False).tolist() == [3, -2, 3, -4, 0]
    assert agreed(VECTORS, [1, 1], [1, 1], mean=True).tolist() == [1.5, -2, 3, -4, 0]


def test_weights_elect_and_share_and_scales_do_neither() -> None:
    # Weights 1 and 3: 3 * 1 wins against 1 * -2.
    assert agreed(VECTORS, [1, 3], [1, 1], mean=True).tolist() == [1.75, 1, -3, -4, 0]
    assert agreed(VECTORS, [1, 3], [2, 10], mean=False).tolist() == [62, 30, -90, -120, 0]
