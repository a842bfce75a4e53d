from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from deepalign_cli.train.objectives import Stack
from deepalign_cli.train.pool import PoolEntry
from deepalign_cli.train.validation import FLOOR, score, validate
from tests.symmetry.builders import seeded
from tests.train.builders import entry_of, trained

KINDS = ["mlp", "field"]


def identity(entry: PoolEntry, a: Stack, b: Stack) -> dict[str, Tensor]:
    return {g: torch.eye(n).unsqueeze(0) for g, n in entry.graph.symmetry.sizes.items()}


def planted(kind: str) -> tuple[PoolEntry, dict[str, Tensor]]:
    """An entry whose held-out pair is a network and its permuted copy, and the permutation."""
    entry = trained(kind)
    symmetry, own = entry.graph.symmetry, entry.family.network(0)
    g = symmetry.random(seeded(1))
    copy = symmetry.apply(g, own)
    weights = {n: torch.stack([own[n], copy[n]]) for n in own}
    family = replace(
        entry.family, weights=weights, score=torch.zeros(2), member=torch.zeros(2, dtype=torch.long)
    )
    return entry_of(family, entry.examples, held=(0, 1)), dict(g.perm)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_and_itself_have_no_excess(kind: str) -> None:
    entry = trained(kind)
    entry = replace(entry, held=torch.tensor([1, 1, 0, 0]))
    assert validate([entry], identity) == {"family": 0.0}


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_permutation_has_no_excess_and_none_has(kind: str) -> None:
    entry, perm = planted(kind)

    def right(entry: PoolEntry, a: Stack, b: Stack) -> dict[str, Tensor]:
        # Unit perm[j] of A is unit j of B.
        return {g: torch.eye(len(p))[p].T.unsqueeze(0) for g, p in perm.items()}

    found, naive = validate([entry], right)["family"], validate([entry], identity)["family"]
    assert abs(found) < 1e-6
    assert naive > 0.01


def test_the_excess_is_the_midpoints_loss_above_the_ends_mean() -> None:
    entry = trained()
    i, j = entry.held.tolist()
    x, y = entry.examples.test_x, entry.examples.test_y
    a, b = entry.family.network(i), entry.family.network(j)
    middle = {n: (a[n] + b[n]) / 2 for n in a}
    ends = [float(torch.nn.functional.cross_entropy(entry.family.design(w, x), y)) for w in (a, b, middle)]
    expected = ends[2] - (ends[0] + ends[1]) / 2
    assert validate([entry], identity)["family"] == pytest.approx(expected, abs=1e-5)


def test_the_prediction_is_asked_for_the_held_out_pair() -> None:
    entry = trained()
    asked = []

    def predict(entry: PoolEntry, a: Stack, b: Stack) -> dict[str, Tensor]:
        asked.append((a, b))
        return identity(entry, a, b)

    validate([entry], predict)
    ((a, b),) = asked
    i, j = entry.held.tolist()
    for n, w in entry.family.weights.items():
        assert torch.equal(a[n], w[i : i + 1])
        assert torch.equal(b[n], w[j : j + 1])


def test_the_score_is_the_mean_logarithm_above_the_floor() -> None:
    assert score({"a": 0.0}) == pytest.approx(math.log(FLOOR))
    assert score({"a": -1.0}) == score({"a": 0.0})
    assert score({"a": 1.0, "b": 0.1}) == pytest.approx((math.log(1 + FLOOR) + math.log(0.1 + FLOOR)) / 2)
    assert score({"a": 1.0, "b": 0.1}) > score({"a": 0.5, "b": 0.1})


def test_what_is_no_number_is_infinitely_bad() -> None:
    assert score({"a": math.nan, "b": 0.1}) == math.inf
    assert score({"b": 0.1, "a": math.nan}) == math.inf
    assert score({"a": math.inf}) == math.inf
