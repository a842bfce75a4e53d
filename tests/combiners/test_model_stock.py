from __future__ import annotations

import math

import pytest
import torch

from deepalign_cli.combiners.model_stock import ratio
from deepalign_cli.errors import UsageError
from tests.combiners.builders import drawn, made


def test_the_way_to_the_average_is_that_of_the_paper() -> None:
    # 60 degrees apart: 2 c / (1 + c) = 2/3.
    angle = math.radians(60)
    vectors = [torch.tensor([1.0, 0.0]), 3 * torch.tensor([math.cos(angle), math.sin(angle)])]
    assert ratio(vectors) == pytest.approx(2 / 3)
    base = torch.tensor([4.0, -1.0])
    merged = made("model_stock", 2)("w", [base, *(base + v for v in vectors)])
    assert torch.allclose(merged, base + (vectors[0] + vectors[1]) / 3)


def test_three_networks_count_by_the_mean_cosine_of_their_pairs() -> None:
    vectors = [torch.tensor(v) for v in ([1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [3.0, 0.0, 3.0])]
    mean = (0 + math.sqrt(0.5) + 0) / 3
    assert ratio(vectors) == pytest.approx(3 * mean / (1 + 2 * mean))


def test_equal_networks_are_themselves_and_opposing_ones_are_the_base() -> None:
    base, network = drawn(2, torch.float64)
    assert torch.allclose(made("model_stock", 3)("w", [base, network, network, network]), network)
    assert torch.equal(made("model_stock", 2)("w", [base, network, 2 * base - network]), base)


def test_short_task_vectors_count_as_less_alike() -> None:
    vector = torch.tensor([1.0, 0.0])
    cosine = 1e-8 / 1e-6
    assert ratio([1e-4 * vector, 1e-4 * vector]) == pytest.approx(2 * cosine / (1 + cosine), rel=1e-4)


def test_it_takes_two_networks_at_least() -> None:
    with pytest.raises(UsageError, match="model_stock combines 2 networks or more besides the base, not 1"):
        made("model_stock", 1)
