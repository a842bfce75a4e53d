from __future__ import annotations

import pytest
import torch

from deepalign_cli.symmetry.tensors import is_trained, widened


def test_statistics_and_integers_are_not_trained() -> None:
    w = torch.zeros(3)
    assert is_trained("bn.weight", w)
    assert is_trained("bn.weight", w.bfloat16())
    assert is_trained("running_mean.weight", w)
    assert not is_trained("bn.running_mean", w)
    assert not is_trained("bn.running_var", w)
    assert not is_trained("bn.num_batches_tracked", torch.tensor(3))
    assert not is_trained("table", torch.arange(3))


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [
        (torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)  # fmt: skip
def test_arithmetic_is_done_in_float32_or_wider(dtype: torch.dtype, wide: torch.dtype) -> None:
    w = torch.randn(5).to(dtype)
    assert widened(w).dtype == wide
    assert torch.equal(widened(w), w.to(wide))
    assert (widened(w) is w) == (dtype == wide)  # no copy where none is needed
