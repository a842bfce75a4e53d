import math

import pytest

from deepalign_cli.measure.curve import Curve, mean_and_spread
from deepalign_cli.plots.series import label_of, main_method, panels_of
from tests.plots.builders import CURVES, curve


def test_curves_of_one_method_and_data_set_are_averaged():
    pairs = [curve("deepalign", b) for b in (0.1, 0.2, 0.6)]
    (series,) = panels_of(pairs)[0].series
    assert series.pairs == 3
    assert series.losses[12] == pytest.approx(0.11 + 0.3)
    assert series.spread[12] == pytest.approx(mean_and_spread([0.1, 0.2, 0.6])[1])
    assert series.barrier == pytest.approx(mean_and_spread([c.barrier for c in pairs]))


def test_the_barrier_is_the_mean_of_barriers_not_that_of_the_mean_curve():
    left = Curve("deepalign", (0.0, 0.25, 0.75, 1.0), (0.0, 1.0, 0.0, 0.0))
    right = Curve("deepalign", (0.0, 0.25, 0.75, 1.0), (0.0, 0.0, 1.0, 0.0))
    (series,) = panels_of([left, right])[0].series
    assert series.barrier == (1.0, 0.0)
    assert max(series.losses) == 0.5


def test_a_panel_for_each_data_set_with_the_naive_first():
    panels = panels_of([curve(m, 1.0, data=d) for d in ("train", "test") for m in ("deepalign", "none")])
    assert [p.data for p in panels] == ["train", "test"]
    assert [s.method for s in panels[0].series] == ["none", "deepalign"]


def test_one_loss_that_is_not_finite_leaves_the_place_out():
    (series,) = panels_of([curve("none", 1.0), curve("none", 1.0, bad=(3,))])[0].series
    assert [i for i, v in enumerate(series.losses) if math.isnan(v)] == [3]
    assert math.isnan(series.barrier[0])
    assert not series.is_finite


def test_accuracies_are_shown_only_where_all_pairs_have_them():
    (series,) = panels_of([curve("none", 1.0), curve("none", 1.0, labels=False)])[0].series
    assert series.accuracies is None


def test_the_main_method_has_the_lowest_barrier_and_wins_ties_by_default():
    assert main_method(panels_of(CURVES["eight, without labels"][0])) == "deepalign + repair"
    assert main_method(panels_of(CURVES["equal curves"][0])) == "deepalign"
    assert main_method(panels_of([curve("none", 1.0)])) is None


def test_what_has_no_barrier_is_not_annotated():
    (panel,) = panels_of(CURVES["below the line"][0])
    assert panel.annotated(main_method([panel])) == []


def test_what_is_not_aligned_is_called_naive():
    assert [label_of(m) for m in ("none", "none + repair", "weights")] == [
        "naive",
        "naive + repair",
        "weights",
    ]


def test_no_curves_and_different_alphas():
    with pytest.raises(ValueError, match="no curves"):
        panels_of([])
    with pytest.raises(ValueError, match="different alphas"):
        panels_of([curve("none", 1.0), curve("none", 1.0, points=11)])
