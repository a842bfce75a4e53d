from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deepalign_cli.merge.linear import Path, merged, normalised
from tests.symmetry.builders import seeded

HALVES = [torch.float16, torch.bfloat16]


def drawn(count: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(64, 32, generator=seeded(i)).to(dtype) for i in range(count)]


@pytest.mark.parametrize("path", Path)
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_the_ends_of_the_path_are_the_inputs_themselves(dtype: torch.dtype, path: Path) -> None:
    a, b = drawn(2, dtype)
    assert torch.equal(merged("w", [a, b], (1.0, 0.0), path), a)
    assert torch.equal(merged("w", [a, b], (0.0, 1.0), path), b)


@pytest.mark.parametrize("alpha", [0.5, 0.3, 0.9])
def test_two_inputs_meet_on_the_line(alpha: float) -> None:
    a, b = drawn(2)
    exact = (1 - alpha) * a.double() + alpha * b.double()
    assert torch.allclose(merged("w", [a, b], (1 - alpha, alpha)).double(), exact, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_types_are_rounded_once(dtype: torch.dtype) -> None:
    # Weights of few bits: sums are exact in float32, and only the last rounding is left.
    for weights in ((0.75, 0.25), (0.25, 0.25, 0.5), (0.125, 0.5, 0.25, 0.125)):
        tensors = [(t * 64).round().to(dtype) for t in drawn(len(weights))]
        exact = sum(w * t.double() for w, t in zip(weights, tensors, strict=True))
        found = merged("w", tensors, weights)
        assert found.dtype == dtype
        assert torch.equal(found, exact.to(dtype))


def test_half_types_do_not_overflow_on_the_way() -> None:
    big = torch.full((3,), 6e4).half()
    assert torch.equal(merged("w", [big, big, big], (1 / 3, 1 / 3, 1 / 3)), big)
    assert torch.equal(merged("w", [big, big], (0.5, 0.5), Path.SLERP), big)


def test_many_inputs_are_averaged_by_their_weights() -> None:
    tensors, weights = drawn(4), (0.1, 0.2, 0.3, 0.4)
    exact = sum(w * t.double() for w, t in zip(weights, tensors, strict=True))
    assert torch.allclose(merged("w", tensors, weights).double(), exact, rtol=1e-5, atol=1e-6)


def test_the_result_has_the_first_inputs_type() -> None:
    a, b = drawn(2)
    for path in Path:
        assert merged("w", [a.bfloat16(), b.double()], (0.5, 0.5), path).dtype == torch.bfloat16
        assert merged("w", [a.double(), b.half()], (0.5, 0.5), path).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.uint8])
@pytest.mark.parametrize("path", Path)
def test_integers_come_from_the_first_input(dtype: torch.dtype, path: Path) -> None:
    a, b = torch.tensor([1, 0, 1]).to(dtype), torch.tensor([0, 1, 1]).to(dtype)
    assert torch.equal(merged("n", [a, b], (0.25, 0.75), path), a)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_slerp_goes_along_the_arc(alpha: float) -> None:
    a, b = (t.double() for t in drawn(2))
    angle = torch.acos((a * b).sum() / (a.norm() * b.norm()))
    weights = torch.sin((1 - alpha) * angle) / torch.sin(angle), torch.sin(alpha * angle) / torch.sin(angle)
    found = merged("w", [a, b], (1 - alpha, alpha), Path.SLERP)
    assert torch.allclose(found, weights[0] * a + weights[1] * b, rtol=1e-12)
    # On the unit sphere the norm stays and the angle is shared out.
    on = merged("w", [a / a.norm(), b / b.norm()], (1 - alpha, alpha), Path.SLERP)
    assert float(on.norm()) == pytest.approx(1.0)
    assert float(torch.acos((on * a).sum() / a.norm())) == pytest.approx(alpha * float(angle))


def test_slerp_falls_back_to_the_line_where_there_is_no_arc() -> None:
    a = drawn(1)[0]
    for b in (2 * a, -a, torch.zeros_like(a), a):
        for pair in ([a, b], [b, a]):
            found = merged("w", pair, (0.5, 0.5), Path.SLERP)
            assert torch.allclose(found, (a + b) / 2, atol=1e-6)


def test_running_statistics_stay_on_the_line_under_slerp() -> None:
    a, b = (t.abs() for t in drawn(2))
    line, arc = (merged("bn.weight", [a, b], (0.5, 0.5), path) for path in Path)
    assert not torch.allclose(line, arc, rtol=1e-3)
    for name in ("bn.running_mean", "bn.running_var"):
        assert torch.equal(merged(name, [a, b], (0.5, 0.5), Path.SLERP), line)


def test_weights_are_made_to_sum_to_one() -> None:
    assert normalised([1, 3.0, 0]) == (0.25, 0.75, 0.0)
    assert math.fsum(normalised([0.1] * 7)) == pytest.approx(1.0, abs=1e-15)
    for bad in ([], [0.0, 0.0], [1.0, -0.5], [math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(ValueError, match="finite, not negative, and not all zero"):
            normalised(bad)
