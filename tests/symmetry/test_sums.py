from __future__ import annotations

import pytest
import torch

from deepalign_cli.symmetry import sums
from deepalign_cli.symmetry.sums import inner_product, squared_distance, squared_norm
from tests.symmetry.builders import seeded


@pytest.mark.parametrize("piece", [7, 1 << 15])
@pytest.mark.parametrize("first", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("second", [torch.float64, torch.float16, torch.float8_e5m2])
def test_sums_are_those_in_double_precision(
    first: torch.dtype, second: torch.dtype, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "_PIECE", piece)
    a, b = (
        torch.randn(4, 5, generator=seeded(0)).to(first),
        torch.randn(5, 4, generator=seeded(1)).to(second).T,
    )
    x, y = a.double(), b.double()
    assert squared_norm(a) == pytest.approx(float(x.square().sum()))
    assert squared_distance(a, b) == pytest.approx(float((x - y).square().sum()), rel=1e-6)
    assert inner_product(a, b) == pytest.approx(float((x * y).sum()), rel=1e-6)


def test_of_nothing_they_are_0() -> None:
    nothing = torch.empty(0, 3)
    assert squared_norm(nothing) == squared_distance(nothing, nothing) == inner_product(nothing, nothing) == 0
