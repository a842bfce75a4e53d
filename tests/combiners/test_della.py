from __future__ import annotations

import pytest
import torch

from deepalign_cli.combiners import della
from deepalign_cli.combiners.della import ranks, sampled
from deepalign_cli.errors import UsageError
from tests.combiners.builders import drawn, made
from tests.symmetry.builders import seeded


def test_ranks_go_from_0_to_1_in_every_row() -> None:
    rows = torch.tensor([[3.0, -1.0, 2.0], [0.0, 5.0, -9.0]])
    assert ranks(rows).tolist() == [[1.0, 0.0, 0.5], [0.0, 0.5, 1.0]]
    assert ranks(torch.tensor([[7.0], [1.0]])).tolist() == [[0.5], [0.5]]


def test_large_entries_stay_more_often_and_the_size_stays() -> None:
    vector = torch.randn(2000, 50, generator=seeded(0))
    kept = sampled(vector, 0.5, 0.3, seeded(1))
    stays, rank = (kept != 0).float(), ranks(vector)
    for low in (0.0, 0.25, 0.5, 0.75):
        part = (rank >= low) & (rank <= low + 0.25)
        assert float(stays[part].mean()) == pytest.approx(0.2 + 0.6 * float(rank[part].mean()), abs=0.01)
    assert float(stays.mean()) == pytest.approx(0.5, abs=5e-3)
    assert float(kept.abs().sum()) == pytest.approx(float(vector.abs().sum()), rel=1e-5)


def test_rows_are_those_of_the_first_axis_whatever_is_sorted_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vector = torch.randn(6, 4, 3, generator=seeded(0))
    whole = sampled(vector, 0.5, 0.3, seeded(1))
    assert torch.equal(whole.flatten(1), sampled(vector.flatten(1), 0.5, 0.3, seeded(1)))
    monkeypatch.setattr(della, "_PIECE", 25)
    assert torch.equal(sampled(vector, 0.5, 0.3, seeded(1)), whole)


def test_with_no_spread_it_keeps_any_entry_with_the_same_probability() -> None:
    vector = torch.randn(2000, 50, generator=seeded(0))
    stays = sampled(vector, 0.3, 0.0, seeded(1)) != 0
    assert float(stays[ranks(vector) < 0.5].float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(stays[ranks(vector) > 0.5].float().mean()) == pytest.approx(0.3, abs=0.01)


def test_the_sum_is_not_divided_and_the_mean_is() -> None:
    base, network = drawn(2)
    mean, total = (
        made(n, 1, weights=(0.5,), density=0.5)("w", [base, network]) for n in ("della", "della_linear")
    )
    assert torch.allclose(mean - base, 2 * (total - base), atol=1e-5)


@pytest.mark.parametrize(("density", "epsilon"), [(0.1, 0.1), (0.9, 0.1), (0.1, 0.3), (0.95, 0.15)])
def test_probabilities_must_be_between_0_and_1(density: float, epsilon: float) -> None:
    with pytest.raises(UsageError, match="do not go together"):
        made("della", 2, density=(0.5, density), epsilon=(0.1, epsilon))
