import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepalign_cli.measure.curve import Curve, mean_and_spread

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
losses = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=5, max_size=5)


def test_the_figures_of_a_tent() -> None:
    curve = Curve("m", ALPHAS, (1.0, 2.0, 3.0, 2.5, 2.0), (0.9, 0.7, 0.5, 0.7, 0.8))

    assert curve.excess == (0.0, 0.75, 1.5, 0.75, 0.0)
    assert curve.barrier == 1.5
    assert ALPHAS[curve.peak] == 0.5
    assert curve.auc == curve.auc_clipped == 0.75
    assert (curve.midpoint_loss, curve.midpoint_accuracy) == (3.0, 0.5)
    assert curve.error_barrier == pytest.approx(0.35)


def test_a_path_below_the_line_has_no_barrier_and_a_negative_area() -> None:
    curve = Curve("m", (0.0, 0.5, 1.0), (1.0, 0.4, 1.0))

    assert curve.barrier == 0.0
    assert curve.auc == pytest.approx(-0.3)
    assert curve.auc_clipped == 0.0


def test_between_two_points_the_midpoint_is_on_their_line() -> None:
    curve = Curve("m", (0.0, 0.4, 0.8, 1.0), (0.0, 1.0, 3.0, 0.0))

    assert curve.midpoint_loss == pytest.approx(1.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_neither_hidden_nor_averaged_away(bad: float) -> None:
    curve = Curve("m", ALPHAS, (1.0, 1.0, bad, 1.0, 1.0))

    assert not curve.is_finite
    assert math.isnan(curve.barrier)
    assert not math.isfinite(curve.auc)
    assert not math.isfinite(curve.auc_clipped)
    assert curve.peak == 2


@pytest.mark.slow
@given(losses)
def test_figures_agree_with_numpy(values: list[float]) -> None:
    curve = Curve("m", ALPHAS, tuple(values))
    psi = np.array(values) - np.interp(ALPHAS, [0, 1], [values[0], values[-1]])

    assert curve.barrier == pytest.approx(max(0.0, psi.max()), abs=1e-12)
    assert curve.auc == pytest.approx(float(np.trapezoid(psi, ALPHAS)), abs=1e-12)
    assert curve.auc_clipped == pytest.approx(float(np.trapezoid(psi.clip(0), ALPHAS)), abs=1e-12)
    assert curve.excess[curve.peak] == pytest.approx(psi.max(), abs=1e-12)


@pytest.mark.slow
@given(losses, st.floats(-3, 3), st.floats(-3, 3))
def test_the_barrier_does_not_see_a_straight_line(values: list[float], level: float, slope: float) -> None:
    tilted = tuple(v + level + slope * a for v, a in zip(values, ALPHAS, strict=True))

    assert Curve("m", ALPHAS, tilted).barrier == pytest.approx(
        Curve("m", ALPHAS, tuple(values)).barrier, abs=1e-9
    )


def test_mean_and_spread() -> None:
    assert mean_and_spread([3.0]) == (3.0, 0.0)
    assert mean_and_spread([1.0, 2.0, 6.0]) == (3.0, pytest.approx(np.std([1, 2, 6], ddof=1)))
