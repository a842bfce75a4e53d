from __future__ import annotations

import pytest
import torch

from deepalign_cli.combiners.drawn import generator_for, rescaled
from deepalign_cli.combiners.table import COMBINERS
from tests.combiners.builders import drawn, made

RANDOM = [name for name, row in COMBINERS.items() if row.seeded and not row.needs_data]


def first(*key: object) -> float:
    return float(torch.rand((), generator=generator_for(*key)))  # type: ignore[arg-type]


def test_numbers_depend_on_the_seed_the_tensor_and_the_network() -> None:
    assert first(0, "w", 0) == first(0, "w", 0)
    others = [
        first(1, "w", 0),
        first(0, "v", 0),
        first(0, "w", 1),
        first(0, "w/0", 0),
        first(2**63 - 1, "w", 0),
    ]
    assert len({first(0, "w", 0), *others}) == 6


def test_what_is_kept_has_the_size_of_the_whole() -> None:
    vector = torch.tensor([3.0, -1.0, 2.0])
    assert rescaled(vector * torch.tensor([1.0, 1.0, 0.0]), vector).tolist() == [4.5, -1.5, 0.0]
    assert rescaled(torch.zeros(3), vector).tolist() == [0.0] * 3
    assert rescaled(vector * 1e-9, vector * 1e-9).tolist() == (vector * 1e-9).tolist()


def test_these_combiners_draw_numbers() -> None:
    assert RANDOM == ["dare_linear", "dare_ties", "della", "della_linear"]


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_decides_and_the_order_of_tensors_does_not(name: str) -> None:
    tensors = drawn(3)
    combine, other = (made(name, 2, seed=seed, density=0.5) for seed in (1, 2))
    there = [combine(n, tensors) for n in ("v", "w")]
    back = [combine(n, tensors) for n in ("w", "v")]
    assert torch.equal(there[0], back[1])
    assert torch.equal(there[1], back[0])
    assert not torch.equal(there[0], there[1])
    assert not torch.equal(there[0], other("v", tensors))


@pytest.mark.parametrize("name", RANDOM)
def test_networks_draw_apart(name: str) -> None:
    base, network = drawn(2)
    kept = [
        made(name, 2, weights=weights, density=0.5)("w", [base, network, network]) != base
        for weights in ((1.0, 0.0), (0.0, 1.0))
    ]
    assert not torch.equal(*kept)
