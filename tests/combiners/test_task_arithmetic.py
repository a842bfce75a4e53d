from __future__ import annotations

import pytest
import torch

from tests.combiners.builders import drawn, made

AT_DENSITY_1 = ["dare_linear", "breadcrumbs", "della_linear"]


def test_task_vectors_are_weighed_scaled_and_added_as_they_are() -> None:
    base, first, second = torch.tensor([1.0]), torch.tensor([3.0]), torch.tensor([0.0])
    tensors = [base, first, second]
    assert made("task_arithmetic", 2)("w", tensors).tolist() == [1 + 2 - 1]
    assert made("task_arithmetic", 2, weights=(0.5, -2.0))("w", tensors).tolist() == [1 + 1 + 2]
    assert made("task_arithmetic", 2, lambda_=0.5)("w", tensors).tolist() == [1 + 0.5]
    assert made("task_arithmetic", 2, lambda_=[0.5, 3.0])("w", tensors).tolist() == [1 + 1 - 3]


def test_one_network_is_itself_and_minus_it_is_the_mirror_image() -> None:
    base, other = drawn(2, torch.float64)
    assert torch.allclose(made("task_arithmetic", 1)("w", [base, other]), other)
    forgotten = made("task_arithmetic", 1, weights=(-1.0,))("w", [base, other])
    assert torch.allclose(forgotten, 2 * base - other)


@pytest.mark.parametrize("name", AT_DENSITY_1)
def test_what_drops_nothing_is_task_arithmetic(name: str) -> None:
    tensors = drawn(4)
    exact = made("task_arithmetic", 3, weights=(1.0, 0.5, -2.0), lambda_=0.7)("w", tensors)
    assert torch.equal(made(name, 3, weights=(1.0, 0.5, -2.0), lambda_=0.7)("w", tensors), exact)
