from __future__ import annotations

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


def test_slerp_falls_back_to_the_line_where_there_is_no_arc() -> None:
    a = drawn(1)[0]
    for b in (2 * a, -a, torch.zeros_like(a), a):
        for pair in ([a, b], [b, a]):
            assert torch.allclose(HALF("w", pair), (a + b) / 2, atol=1e-6)


def test_half_types_do_not_overflow_on_the_way() -> None:
    big = torch.full((3,), 6e4).half()
    assert torch.equal(HALF("w", [big, big]), big)


def test_running_statistics_stay_on_the_line() -> None:
    a, b = (t.abs() for t in drawn(2))
    line, arc = (combine("bn.weight", [a, b]) for combine in (WeightedMean((0.5, 0.5)), HALF))
    assert not torch.allclose(line, arc, rtol=1e-3)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(HALF(name, [a, b]), line)
