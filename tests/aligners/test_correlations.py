"""Correlations of two networks' activations, against the definition on all of them at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deepalign_cli.aligners.correlations import PairMoments, correlations
from deepalign_cli.errors import DataError, NonFiniteError
from deepalign_cli.symmetry.spec import parse_spec
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from tests.aligners.builders import mlp_run, trained
from tests.symmetry.builders import seeded


@pytest.mark.slow
def test_correlations_are_those_of_all_activations_at_once() -> None:
    symmetry, a, b = trained()
    x = 3 + torch.randn(301, 12, generator=seeded(3))
    found = correlations(symmetry, mlp_run, a, b, lambda: x.split(64))

    kept = [[], []]
    for side, w in zip(kept, (a, b), strict=True):
        hidden = x
        for i in (0, 2):
            hidden = torch.nn.functional.linear(hidden, w[f"{i}.weight"], w[f"{i}.bias"]).relu()
            side.append(hidden.double())
    for group, own, other in zip(symmetry.sizes, *kept, strict=True):
        both = torch.corrcoef(torch.cat([own, other], 1).T)[: own.shape[1], own.shape[1] :]
        alive = own.std(0).gt(0)[:, None] & other.std(0).gt(0)
        assert alive.any()
        plain = found.groups[group].plain
        assert torch.allclose(plain, torch.where(alive, both, 0.0), atol=1e-5)
    assert found.samples == 301


def test_units_that_hardly_change_on_a_large_offset_are_still_told_apart() -> None:
    x = torch.randn(4, 1000, generator=seeded(0))
    moments = PairMoments(4)
    for part in (100 + 0.05 * x).split(250, dim=1):
        moments.add(part, part.flip(0))
    moments.add(torch.full((4, 1), 100.0), torch.full((4, 1), 100.0))
    found = moments.correlations()
    assert torch.allclose(found.flip(1).diagonal(), torch.ones(4, dtype=torch.float64), atol=1e-3)


def test_a_constant_unit_correlates_with_nothing() -> None:
    x = torch.randn(2, 50, generator=seeded(0))
    x[1] = 7.3
    moments = PairMoments(2)
    moments.add(x, x)
    assert torch.allclose(
        moments.correlations(), torch.tensor([[1.0, 0], [0, 0]], dtype=torch.float64), atol=1e-6
    )


def test_a_weight_that_is_used_twice_is_read_twice() -> None:
    text = '[axes]\n"a.weight" = "h 3"\n"m.weight" = "h h"\n"b.weight" = "2 h"'
    shapes = {"a.weight": (8, 3), "m.weight": (8, 8), "b.weight": (2, 8)}
    symmetry = Symmetry(parse_spec(text), shapes)
    a = {n: torch.randn(s, generator=seeded(i)) for i, (n, s) in enumerate(shapes.items())}
    g = symmetry.random(seeded(9))
    linear = torch.nn.functional.linear

    def run(w: Weights, x: Tensor) -> Tensor:
        x = linear(x, w["a.weight"]).relu()
        x = linear(x, w["m.weight"]).relu_()
        return linear(linear(x, w["m.weight"]).relu(), w["b.weight"])

    x = torch.randn(40, 3, generator=seeded(3))
    found = correlations(symmetry, run, a, symmetry.apply(g, a), lambda: [x])
    # Two readers, each a correlation of 1 for every unit that changes at all.
    best = found.groups["h"].plain.gather(1, torch.argsort(g.perm["h"])[:, None])
    assert best.max() == pytest.approx(2, abs=1e-5)
    assert found.groups["h"].plain.max() <= best.max() + 1e-9


@pytest.mark.slow
def test_activations_that_are_not_numbers_are_an_error_that_names_the_layer() -> None:
    symmetry, a, b = trained()
    b = {**b, "0.weight": b["0.weight"] * 1e38 * 1e3}
    x = torch.randn(20, 12, generator=seeded(3))
    with pytest.raises(NonFiniteError, match=r"'2\.weight' reads in the second network"):
        correlations(symmetry, mlp_run, a, b, lambda: [x])


def test_data_that_is_not_numbers_or_not_there_is_an_error() -> None:
    symmetry, a, b = trained()
    bad = torch.full((2, 12), torch.nan)
    with pytest.raises(DataError, match="inputs hold NaN"):
        correlations(symmetry, mlp_run, a, b, lambda: [bad])
    with pytest.raises(DataError, match="no inputs"):
        correlations(symmetry, mlp_run, a, b, list)
