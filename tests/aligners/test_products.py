from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners import products
from deepalign_cli.aligners.products import Products, exact_in_bfloat16
from tests.symmetry.builders import seeded


def rows(dtype: torch.dtype, seed: int = 0, columns: int = 30) -> Tensor:
    return torch.randn(6, columns, generator=seeded(seed)).to(dtype)


@pytest.mark.parametrize("first", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("second", [torch.float64, torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("piece", [1 << 24, 6 * 7])
def test_products_are_those_in_double_precision(
    first: torch.dtype, second: torch.dtype, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_BUFFER", piece)
    add = Products().add
    a, b = rows(first), rows(second, 1)
    total = add(add(None, a, b), b[:, :5], a.T.contiguous().T[:, :5])

    expected = a.double() @ b.double().T + b[:, :5].double() @ a[:, :5].double().T
    assert torch.allclose(total.double(), expected, rtol=1e-5, atol=1e-5)
    assert total.dtype == (torch.float64 if torch.float64 in (first, second) else torch.float32)


def test_they_are_summed_in_the_wider_type() -> None:
    def sum_of(first: torch.dtype, second: torch.dtype) -> Tensor:
        ones = torch.ones(2, 3, dtype=second)
        return Products().add(torch.ones(2, 2, dtype=first), ones, ones)

    assert sum_of(torch.float32, torch.float64).dtype == torch.float64
    assert sum_of(torch.float64, torch.bfloat16).dtype == torch.float64
    assert torch.equal(sum_of(torch.float32, torch.float32), torch.full((2, 2), 4.0))


def test_numbers_of_bfloat16_lose_nothing() -> None:
    a, b = (rows(torch.bfloat16, seed, 4096) for seed in (0, 1))
    total = Products().add(None, a, b)
    assert torch.allclose(total.double(), a.double() @ b.double().T, rtol=0, atol=1e-3)  # of about 64


def test_the_setting_is_as_it_was_afterwards() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), exact_in_bfloat16():
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


def test_the_setting_is_as_it_was_after_two_threads_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "multiplies_halves", lambda: True)
    before, leaves = torch.get_float32_matmul_precision(), threading.Event()

    def second() -> None:
        with exact_in_bfloat16():
            leaves.wait(5)

    thread = threading.Thread(target=second)
    with exact_in_bfloat16():
        thread.start()
        thread.join(0.1)  # the other one would have taken this one's setting for the one before
    leaves.set()
    thread.join()
    assert torch.get_float32_matmul_precision() == before
