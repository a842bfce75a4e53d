from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from deepalign_cli.combiners.combiner import Combine
from deepalign_cli.combiners.table import COMBINERS, DEFAULT
from deepalign_cli.errors import UsageError
from tests.combiners.builders import HALVES, drawn

OF_TWO = [name for name, row in COMBINERS.items() if not (row.needs_base or row.encodes)]
HALF = (0.5, 0.5)


def combine(name: str, *weights: float) -> Combine:
    return COMBINERS[name].make(weights, {})


@pytest.mark.parametrize("name", OF_TWO)
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_the_ends_of_the_path_are_the_inputs_themselves(dtype: torch.dtype, name: str) -> None:
    a, b = drawn(2, dtype)
    assert torch.equal(combine(name, 1.0, 0.0)("w", [a, b]), a)
    assert torch.equal(combine(name, 0.0, 1.0)("w", [a, b]), b)


@pytest.mark.parametrize("name", OF_TWO)
def test_the_result_has_the_first_inputs_type(name: str) -> None:
    a, b = drawn(2)
    assert combine(name, *HALF)("w", [a.bfloat16(), b.double()]).dtype == torch.bfloat16
    assert combine(name, *HALF)("w", [a.double(), b.half()]).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.uint8])
@pytest.mark.parametrize("name", OF_TWO)
def test_integers_come_from_the_first_input(dtype: torch.dtype, name: str) -> None:
    a, b = torch.tensor([1, 0, 1]).to(dtype), torch.tensor([0, 1, 1]).to(dtype)
    assert torch.equal(combine(name, 0.25, 0.75)("n", [a, b]), a)


def test_weights_are_made_to_sum_to_one() -> None:
    linear = COMBINERS[DEFAULT]
    assert linear.shares([1, 3.0, 0]) == (0.25, 0.75, 0.0)
    assert math.fsum(linear.shares([0.1] * 7)) == pytest.approx(1.0, abs=1e-15)
    for bad in ([], [0.0, 0.0], [1.0, -0.5], [math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(UsageError, match="finite, not negative, and not all zero"):
            linear.make(bad, {})


def test_slerp_takes_two_networks() -> None:
    with pytest.raises(UsageError, match="slerp combines 2 networks, not 3"):
        combine("slerp", 1.0, 1.0, 1.0)


def test_factors_stay_as_they_are() -> None:
    ties = COMBINERS["ties"]
    assert ties.shares([2, -0.5]) == (2, -0.5)
    assert (ties.equal(3), COMBINERS[DEFAULT].equal(2)) == ((1, 1, 1), (0.5, 0.5))
    assert ties.shares([0.0, 0.0]) == (0, 0)
    for bad in ([math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(UsageError, match="weights must be finite"):
            ties.make(bad, {})


def test_a_base_has_no_share_in_what_repair_aims_at() -> None:
    linear, ties = COMBINERS[DEFAULT], COMBINERS["ties"]
    assert linear.goals((1, 3)) == (0.25, 0.75)
    assert ties.goals((1, 3), has_base=True) == (0.0, 0.25, 0.75)
    assert ties.goals((1, -3), has_base=True) == (0.0, 1.0, 0.0)
    assert ties.goals((-1, -3), has_base=True) == (1.0, 0.0, 0.0)


def test_a_value_is_for_all_networks_or_for_each() -> None:
    ties = COMBINERS["ties"]
    assert replace(ties.make((1, 2), {"density": 0.5})) == ties.make((1, 2), {"density": (0.5, 0.5)})
    with pytest.raises(UsageError, match="3 values of --density are given for 2 inputs"):
        ties.make((1, 2), {"density": [0.5, 0.3, 0.1]})


def test_there_are_these_combiners() -> None:
    assert list(COMBINERS)[:14] == [
        "linear", "slerp", "nuslerp", "karcher", "task_arithmetic", "ties", "dare_linear", "dare_ties",
        "breadcrumbs", "breadcrumbs_ties", "della", "della_linear", "sce", "model_stock",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="there is no combiner 'cubic'"):
        COMBINERS.find("cubic")


def test_every_row_has_its_paper_and_a_sentence_for_a_card() -> None:
    for row in COMBINERS.values():
        assert row.paper
        assert "3" in row.sentence.format(count=3)
