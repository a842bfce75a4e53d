import math

import pytest

from deepalign_cli.plots.axis import (
    Scale,
    linear_ticks,
    log_ticks,
    loss_scale,
    padded,
    short,
    tick_texts,
)
from deepalign_cli.plots.series import panels_of
from tests.plots.builders import CURVES, curve


def test_linear_ticks_are_round_and_within():
    assert linear_ticks(-0.1, 2.4) == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert tick_texts(linear_ticks(2.29, 2.31)) == ["2.290", "2.295", "2.300", "2.305", "2.310"]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1e-9, 3e-9), (-5e8, 7e8), (2.3, 2.3001)])
def test_there_are_a_few_ticks_and_their_texts_differ(low: float, high: float):
    ticks = linear_ticks(low, high)
    assert 3 <= len(ticks) <= 11
    assert len(set(tick_texts(ticks))) == len(ticks)


def test_log_ticks_are_powers_with_2_and_5_where_there_are_few():
    assert log_ticks(0.01, 100.0) == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert log_ticks(0.9, 11.0) == pytest.approx([1, 2, 5, 10])
    assert 3 <= len(log_ticks(1e-30, 1e30)) <= 10


def test_texts_of_ticks():
    assert tick_texts([0.0, 0.25, 0.5], percent=True) == ["0%", "25%", "50%"]
    assert tick_texts([0.001, 1, 1e4, 1e5], log=True) == ["0.001", "1", "10000", "1e5"]
    assert tick_texts([-1.0, 0.0, 1.0]) == ["\N{MINUS SIGN}1", "0", "1"]
    assert short("1.50e-07") == "1.50e\N{MINUS SIGN}7"


@pytest.mark.parametrize("scale", [Scale(-1.0, 3.0), Scale(0.01, 50.0, log=True)])
def test_places_and_values_are_inverse(scale: Scale):
    assert scale.place(scale.low) == pytest.approx(0)
    assert scale.place(scale.high) == pytest.approx(1)
    assert scale.place(scale.value(0.3)) == pytest.approx(0.3)


@pytest.mark.parametrize("name", CURVES)
def test_the_axis_holds_every_finite_loss(name: str):
    panels = panels_of(CURVES[name][0])
    scale = loss_scale(panels)
    losses = [v for p in panels for s in p.series for v in s.losses if math.isfinite(v)]
    assert scale.low < scale.high
    assert all(scale.low <= v <= scale.high for v in losses)


def test_it_is_logarithmic_only_where_one_method_would_hide_another():
    naive, best = curve("none", 2.2), curve("deepalign", 0.003)
    assert loss_scale(panels_of([naive, curve("deepalign", 0.1)])).log is False
    assert loss_scale(panels_of([curve("none", 40.0), best])).log is True
    assert loss_scale(panels_of([curve("none", 40.0), curve("deepalign", 0.1, ends=(0, 0.1))])).log is False


def test_a_range_that_is_nothing_beside_the_values_is_not_blown_up():
    scale = padded(2.3, 2.3001)
    assert scale.high - scale.low > 0.02


def test_without_a_finite_loss_there_are_no_ticks():
    assert loss_scale(panels_of(CURVES["never finite"][0])).ticks == []
