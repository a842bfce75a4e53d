from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.combiners.builders import drawn, made


def unit(degrees: float) -> Tensor:
    return torch.tensor(
        [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))], dtype=torch.float64
    )


@settings(max_examples=30)
@given(st.floats(1, 170), st.floats(0.05, 0.95))
def test_of_two_it_is_the_point_on_the_arc_at_their_weights(degrees: float, t: float) -> None:
    mean = made("karcher", 2, weights=(1 - t, t))("w", [unit(0), unit(degrees)])
    assert torch.allclose(mean, unit(t * degrees), atol=1e-4)


def test_of_many_on_a_circle_it_is_the_mean_angle_and_the_mean_norm() -> None:
    tensors = [2 * unit(10), 3 * unit(40), 4 * unit(130)]
    assert torch.allclose(made("karcher", 3)("w", tensors), 3 * unit(60), atol=1e-4)
    weighed = made("karcher", 3, weights=(2.0, 1.0, 1.0))("w", tensors)
    assert torch.allclose(weighed, 2.75 * unit(47.5), atol=1e-4)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_angles_to_the_mean_cancel_out(count: int) -> None:
    tensors = [w.flatten() for w in drawn(count, torch.float64)]
    mean = made("karcher", count)("w", tensors)
    u = mean / mean.norm()
    pull = torch.zeros_like(u)
    for w in (w / w.norm() for w in tensors):
        cosine = float(u @ w)
        pull += math.acos(cosine) / math.sqrt(1 - cosine**2) * (w - cosine * u)
    assert float(pull.norm()) < 1e-4
    assert float(mean.norm()) == pytest.approx(sum(float(w.norm()) for w in tensors) / count, rel=1e-9)


@given(st.integers(1, 5))
def test_equal_networks_are_themselves(count: int) -> None:
    w = drawn(1, torch.float64)[0]
    assert torch.allclose(made("karcher", count)("w", [w] * count), w, rtol=1e-12)


def test_zeros_have_no_direction_and_opposites_keep_the_first() -> None:
    a, zero = unit(30), torch.zeros(2, dtype=torch.float64)
    assert torch.allclose(made("karcher", 2)("w", [a, zero]), a / 2)
    assert torch.allclose(made("karcher", 3)("w", [a, zero, a]), 2 / 3 * a)
    assert torch.equal(made("karcher", 2)("w", [zero, zero]), zero)
    assert torch.allclose(made("karcher", 2)("w", [a, -a]).norm(), torch.ones((), dtype=torch.float64))


def test_statistics_are_averaged_on_the_line() -> None:
    tensors = [torch.tensor([v, 1.0]) for v in (0.0, 3.0, 6.0)]
    assert made("karcher", 3)("bn.running_var", tensors).tolist() == pytest.approx([3.0, 1.0])
