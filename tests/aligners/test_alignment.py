from __future__ import annotations

import math

import pytest
import torch

from deepalign_cli.aligners.alignment import Aligner, distance
from deepalign_cli.aligners.none import NoAlignment
from deepalign_cli.aligners.weights import WeightMatching
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry
from deepalign_cli.symmetry.tensors import is_trained, widened
from tests.symmetry.builders import case, seeded


def test_every_method_is_an_aligner() -> None:
    assert isinstance(NoAlignment(), Aligner)
    assert isinstance(WeightMatching(), Aligner)


def test_the_distance_is_euclidean_over_trained_tensors_moved_or_not() -> None:
    symmetry, a = case("mlp_batchnorm")
    b = case("mlp_batchnorm", seed=1)[1]
    g = symmetry.random(seeded(0))
    for element, moved in ((None, b), (g, symmetry.apply(g, b))):
        entries = [
            float(x - y) ** 2
            for name in a
            if "running" not in name and "tracked" not in name
            for x, y in zip(a[name].flatten(), moved[name].flatten(), strict=True)
        ]
        assert distance(symmetry, a, b, element) == pytest.approx(math.sqrt(math.fsum(entries)), rel=1e-5)


def test_half_types_do_not_overflow_in_the_distance() -> None:
    symmetry = Symmetry(parse_spec('[axes]\nw = "k"'), {"w": (4,)})
    a, b = {"w": torch.full((4,), 6e4).half()}, {"w": torch.full((4,), -6e4).half()}
    assert distance(symmetry, a, b) == pytest.approx(2.4e5, rel=1e-3)
    assert distance(symmetry, a, {"w": b["w"].double()}) == pytest.approx(2.4e5, rel=1e-3)


def test_integers_and_statistics_are_not_trained() -> None:
    one = torch.ones(1)
    assert is_trained("bn.weight", one)
    assert is_trained("running_mean.weight", one)
    assert not is_trained("bn.running_mean", one)
    assert not is_trained("running_var", one)
    assert not is_trained("w", one.long())


def test_arithmetic_is_done_in_float32_or_wider() -> None:
    types = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        assert widened(torch.ones(1, dtype=dtype)).dtype == types.get(dtype, dtype)
