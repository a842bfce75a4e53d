from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import NonFiniteError
from deepalign_cli.operations.finite import check_finite, is_finite
from tests.operations.making import pair, save


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_is_finite(dtype: torch.dtype) -> None:
    big = torch.full((9,), torch.finfo(dtype).max, dtype=dtype)
    assert is_finite(big)  # though the sum is not
    assert is_finite(torch.zeros(0, dtype=dtype))
    for value in (math.nan, math.inf, -math.inf):
        bad = torch.zeros(9, dtype=dtype)
        bad[4] = value
        assert not is_finite(bad)
    assert not is_finite(torch.tensor([math.inf, -math.inf], dtype=dtype))


def test_infinite_weights_are_found(tmp_path: Path) -> None:
    for path in pair(tmp_path):
        check_finite(open_checkpoint(path))
    with pytest.raises(NonFiniteError, match=r"'w' in '.*bad\.pt' holds NaN or Inf"):
        check_finite(
            open_checkpoint(save({"n": torch.arange(3), "w": torch.tensor(math.nan)}, tmp_path / "bad.pt"))
        )
