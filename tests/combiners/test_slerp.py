from __future__ import annotations

import math

import pytest
import torch

from deepalign_cli.combiners.linear import WeightedMean
from deepalign_cli.combiners.slerp import Slerp
from tests.combiners.builders import drawn

HALF = Slerp((0.5, 0.5))


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_slerp_goes_along_the_arc(alpha: float) -> None:
    a, b = (t.double() for t in drawn(2))
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    weights = torch.sin((1 - alpha) * angle) / torch.sin(angle), torch.sin(alpha * angle) / torch.sin(angle)
    slerp = Slerp((1 - alpha, alpha))
    assert torch.allclose(slerp("w", [a, b]), weights[0] * a + weights[1] * b, rtol=1e-12)
    # On the unit sphere the norm stays and the angle is shared out.
    on = slerp("w", [a / a.norm(), b / b.norm()])
    assert float(on.norm()) == pytest.approx(1.0)
    assert float(torch.acos((on * a).sum() / a.norm())) == pytest.approx(alpha * float(angle))


def test_slerp_takes_the_line_where_there_is_no_arc() -> None:
    a = drawn(1)[0]
    for b in (2 * a, -a, a):
        for pair in ([a, b], [b, a]):
            assert torch.allclose(HALF("w", pair), (a + b) / 2, atol=1e-6)


def test_slerp_takes_the_line_up_to_a_cosine_of_0_9995() -> None:
    # As mergekit does; nuslerp stays on the arc.
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for degrees, norm in ((1.8, math.cos(math.radians(0.9))), (1.82, 1.0)):
        b = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]).double()
        assert float(HALF("w", [a, b]).norm()) == pytest.approx(norm, abs=1e-7)


def test_a_tensor_of_zeros_counts_as_at_right_angles() -> None:
    a = drawn(1)[0]
    assert torch.allclose(HALF("w", [a, torch.zeros_like(a)]), a * math.sqrt(0.5))
    assert torch.equal(HALF("w", [0 * a, 0 * a]), 0 * a)


def test_half_types_do_not_overflow_on_the_way() -> None:
    big = torch.full((3,), 6e4).half()
    assert torch.equal(HALF("w", [big, big]), big)


def test_running_statistics_stay_on_the_line() -> None:
    a, b = (t.abs() for t in drawn(2))
    line, arc = (combine("bn.weight", [a, b]) for combine in (WeightedMean((0.5, 0.5)), HALF))
    assert not torch.allclose(line, arc, rtol=1e-3)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(HALF(name, [a, b]), line)
