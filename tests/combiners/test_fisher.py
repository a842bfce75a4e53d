"""Fisher merging against what can be computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.combiners.fisher import FisherMean, diagonal_fisher
from tests.symmetry.builders import seeded


def test_entries_count_by_their_information() -> None:
    a, b = torch.tensor([0.0, 1.0, 4.0]), torch.tensor([2.0, 3.0, 8.0])
    known = [{"w": torch.tensor([1.0, 0.0, 0.0])}, {"w": torch.tensor([3.0, 2.0, 0.0])}]
    merged = FisherMean((0.5, 0.5), known)("w", [a, b])
    assert torch.allclose(
        merged, torch.tensor([1.5, 3.0, 6.0]), atol=1e-4
    )  # nobody knows of the last: the mean
    assert torch.equal(FisherMean((1.0, 0.0), known)("w", [a, b]), a)
    assert torch.equal(FisherMean((0.25, 0.75), known)("b", [a, b]), torch.lerp(a, b, 0.75))
    nothing = [{"w": torch.zeros(3)}] * 2
    assert torch.allclose(FisherMean((0.5, 0.5), nothing)("w", [a, b]), (a + b) / 2)


def test_of_a_linear_classifier_it_is_the_formula() -> None:
    rng = seeded(0)
    w, x = torch.randn(3, 4, generator=rng), torch.randn(1500, 4, generator=rng)

    def run(weights: dict[str, Tensor], batch: Tensor) -> Tensor:
        return batch @ weights["w"].T

    p = (x @ w.T).softmax(1)
    exact = torch.einsum("nk,ni->ki", p * (1 - p), x.square()) / len(x)  # E_y (y_k - p_k)^2 x_i^2
    found = diagonal_fisher(run, {"w": w, "n": torch.tensor(3)}, lambda: x.split(500), seed=1)
    assert found.keys() == {"w"}
    assert torch.allclose(found["w"], exact, rtol=0.25)
    again = diagonal_fisher(run, {"w": w}, lambda: x[:20].split(7), seed=1)
    split = diagonal_fisher(run, {"w": w}, lambda: x[:20].split(3), seed=1)
    assert torch.allclose(again["w"], split["w"], rtol=1e-5)  # the same was drawn, however they are batched


@pytest.mark.parametrize("values", [True, False])
def test_values_have_normal_noise(values: bool) -> None:
    outputs = 2 if values else 1
    rng = seeded(0)
    w, x = torch.randn(outputs, 4, generator=rng).bfloat16(), torch.randn(1000, 4, generator=rng)
    found = diagonal_fisher(lambda ws, b: b @ ws["w"].T, {"w": w}, lambda: [x], values=values)["w"]
    assert torch.allclose(found, x.square().mean(0).expand(outputs, 4), rtol=0.4)
