from __future__ import annotations

import pytest
import torch

from tests.combiners.builders import drawn, made


def test_it_is_slerp_and_stays_on_the_arc_where_slerp_takes_the_line() -> None:
    a, b = drawn(2, torch.float64)
    weights = (1.0, 3.0)
    slerp, nuslerp = (made(name, 2, weights=weights) for name in ("slerp", "nuslerp"))
    assert torch.allclose(nuslerp("w", [a, b]), slerp("w", [a, b]))

    near = a + 0.03 * b * a.norm() / b.norm()  # 1.7 degrees
    near = near * a.norm() / near.norm()
    assert float(nuslerp("w", [a, near]).norm() / a.norm()) == pytest.approx(1, abs=1e-12)
    assert float(slerp("w", [a, near]).norm() / a.norm()) < 1 - 1e-6


def test_with_a_base_the_arc_is_that_between_task_vectors() -> None:
    base, a, b = drawn(3, torch.float64)
    arc = made("nuslerp", 2, weights=(1.0, 3.0))
    assert torch.allclose(arc("w", [base, a, b]), base + arc("w", [a - base, b - base]))
    assert torch.allclose(arc("w", [torch.zeros_like(a), a, b]), arc("w", [a, b]))


def test_statistics_stay_on_the_line_with_a_base_and_without() -> None:
    base, a, b = (torch.full((2,), v) for v in (9.0, 1.0, 3.0))
    arc = made("nuslerp", 2, weights=(1.0, 3.0))
    for tensors in ([a, b], [base, a, b]):
        assert arc("bn.running_mean", tensors).tolist() == [2.5, 2.5]
