from __future__ import annotations

import pytest
import torch

from deepalign_cli.combiners import angles
from deepalign_cli.combiners.angles import cosine, gram, summed
from tests.combiners.builders import drawn


def test_inner_products_are_those_of_all_numbers_whatever_is_read_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tensors = drawn(3)
    flat = torch.stack([w.flatten().double() for w in tensors])
    monkeypatch.setattr(angles, "_PIECE", 100)
    assert torch.allclose(gram(tensors), flat @ flat.T, rtol=1e-12)
    assert gram([torch.tensor(3.0), torch.tensor(-2.0)]).tolist() == [[9, -6], [-6, 4]]


def test_a_cosine_is_that_of_the_angle_and_0_where_there_is_none() -> None:
    products = gram([torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0]), torch.zeros(2)])
    assert cosine(products, 0, 1) == pytest.approx(0.6)
    assert cosine(products, 0, 1, least=90.0) == pytest.approx(0.1)
    assert cosine(products, 0, 2) == cosine(products, 2, 2) == 0.0


def test_a_sum_has_the_type_of_its_tensors() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    assert summed([2.0, 0.5], [a, b]).tolist() == [7.0, 14.0]
    assert summed([2.0], [a.double()]).dtype == torch.float64
