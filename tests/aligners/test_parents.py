"""A loss without labels: two networks' mean outputs are what a third is measured against."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deepalign_cli.aligners.parents import Parents
from deepalign_cli.errors import DataError
from deepalign_cli.symmetry.symmetry import Weights
from tests.symmetry.builders import seeded


def linear(weights: Weights, x: Tensor) -> Tensor:
    return x @ weights["w"].T


def networks(outputs: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    rng = seeded(0)
    return {"w": torch.randn(outputs, 6, generator=rng)}, {"w": torch.randn(outputs, 6, generator=rng)}


def batches() -> Iterator[Tensor]:
    return iter(torch.randn(50, 6, generator=seeded(1)).split(20))  # type: ignore[no-untyped-call]


def test_classes_are_measured_by_cross_entropy_to_the_mean_of_the_chances() -> None:
    a, b = networks(4)
    parents = Parents(linear, a, b, batches)
    x = torch.cat([*batches()])
    wanted = (linear(a, x).softmax(-1) + linear(b, x).softmax(-1)) / 2
    third = {"w": torch.randn(4, 6, generator=seeded(2), requires_grad=True)}
    places = torch.tensor([3, 41, 7])
    loss = parents(third, places)
    expected = functional.cross_entropy(linear(third, x[places]), wanted[places])
    torch.testing.assert_close(loss, expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert third["w"].grad is not None
    assert (parents.batch, len(parents)) == (20, 50)
    assert parents.judge(third) == pytest.approx(parents(third, torch.arange(50)).item(), rel=1e-5)


def test_numbers_are_measured_by_squares_and_their_mean_is_the_best() -> None:
    a, b = networks(1)
    parents = Parents(linear, a, b, batches)
    middle = {"w": (a["w"] + b["w"]) / 2}
    assert parents.judge(middle) == pytest.approx(0, abs=1e-10)
    assert parents.judge(a) > 0.1


def test_without_examples_there_is_nothing_to_measure() -> None:
    a, b = networks(2)
    with pytest.raises(DataError, match="there are no inputs"):
        Parents(linear, a, b, lambda: iter(()))
