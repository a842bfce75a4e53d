from __future__ import annotations

import pytest
import torch

from deepalign_cli.combiners.linear import WeightedMean
from tests.combiners.builders import HALVES, drawn


@pytest.mark.parametrize("alpha", [0.5, 0.3, 0.9])
def test_two_inputs_meet_on_the_line(alpha: float) -> None:
    a, b = drawn(2)
    exact = (1 - alpha) * a.double() + alpha * b.double()
    assert torch.allclose(WeightedMean((1 - alpha, alpha))("w", [a, b]).double(), exact, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_types_are_rounded_once(dtype: torch.dtype) -> None:
    # Weights of few bits: sums are exact in float32, and only the last rounding is left.
    for weights in ((0.75, 0.25), (0.25, 0.25, 0.5), (0.125, 0.5, 0.25, 0.125)):
        tensors = [(t * 64).round().to(dtype) for t in drawn(len(weights))]
        exact = sum(w * t.double() for w, t in zip(weights, tensors, strict=True))
        average = WeightedMean(weights)("w", tensors)
        assert average.dtype == dtype
        assert torch.equal(average, exact.to(dtype))


def test_half_types_do_not_overflow_on_the_way() -> None:
    big = torch.full((3,), 6e4).half()
    assert torch.equal(WeightedMean((1 / 3, 1 / 3, 1 / 3))("w", [big, big, big]), big)


def test_many_inputs_are_averaged_by_their_weights() -> None:
    tensors, weights = drawn(4), (0.1, 0.2, 0.3, 0.4)
    exact = sum(w * t.double() for w, t in zip(weights, tensors, strict=True))
    assert torch.allclose(WeightedMean(weights)("w", tensors).double(), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [1, 77, 4096])
def test_two_of_a_half_type_are_averaged_as_in_float32(dtype: torch.dtype, share: float, size: int) -> None:
    bits = torch.randint(-(2**15), 2**15, (2, size), generator=torch.Generator().manual_seed(0))
    a, b = bits.to(torch.int16).view(dtype)  # all kinds of numbers, tiny and huge ones and NaN among them
    wide = torch.lerp(a.float(), b.float(), share).to(dtype)
    assert torch.equal(WeightedMean((1 - share, share))("w", [a, b]).nan_to_num(7), wide.nan_to_num(7))
