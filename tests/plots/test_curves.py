from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from deepalign_cli.plots.curves import draw_curves
from deepalign_cli.plots.drawing import Drawing
from deepalign_cli.plots.series import panels_of
from deepalign_cli.plots.sheet import Sheet
from deepalign_cli.plots.style import matplotlib_style
from deepalign_cli.plots.text import clean, ends_of
from tests.plots.builders import CURVES
from tests.plots.extents import outside, overlaps, texts_of


@cache
def draw(name: str, width: float | None = None, font: str | None = None) -> Sheet:
    curves, names, title = CURVES[name]
    how = Drawing(width, font)
    with matplotlib_style(how):
        return draw_curves(panels_of(curves), ends_of(names), clean(title), how)


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, 3.25])
@pytest.mark.parametrize("name", CURVES)
def test_no_label_is_on_another_or_cut(name: str, width: float | None):
    panels = len({curve.data for curve in CURVES[name][0]})
    sheet = draw(name, width and max(width, 1 + 1.6 * panels))
    texts = texts_of(sheet)
    assert overlaps(texts) == []
    assert outside(sheet, texts) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in CURVES if n not in ("equal curves", "tiny barrier")])
def test_no_label_in_the_axes_is_on_a_curve(name: str):
    sheet = draw(name)
    axes = sheet.figure.axes[0]
    extents = dict(texts_of(sheet))
    assert axes.texts or name in ("below the line", "all zero", "never finite")
    for label in axes.texts:
        box = extents[label.get_text()]
        for line in axes.lines:
            places = line.get_transform().transform(line.get_xydata())
            assert not any(
                box.contains(*point) for a, b in pairwise(places) for point in np.linspace(a, b, 20)
            )


@pytest.mark.slow
def test_all_is_said():
    said = [text for text, _ in texts_of(draw("five methods"))]
    for text in (
        "A: runs/0/model.safetensors",
        "aligned B: runs/1/model.safetensors",
        "loss",
        "accuracy",
        "naive",
    ):
        assert text in said
    assert said.count("barrier 2.2") == 2  # at the bracket and in the legend
    assert said.count("barrier 0.1") == 2
    assert said.count("barrier 0.5") == 1


def test_the_bracket_runs_from_the_straight_line_to_the_peak():
    axes = draw("one").figure.axes[0]
    (bracket,) = [line for line in axes.lines if line.get_marker() == "_"]
    assert bracket.get_xdata() == pytest.approx([0.5, 0.5])
    assert bracket.get_ydata() == pytest.approx([0.11, 0.41])


def test_the_naive_curve_is_grey_and_dashed_and_looks_differ_without_colour():
    axes = draw("five methods").figure.axes[0]
    lines = [line for line in axes.lines if line.get_marker() not in ("x", "_", "None")]
    assert lines[0].get_color() == "#767676"
    assert lines[0].is_dashed()
    assert len({line.get_marker() for line in lines}) == 5
    assert len({str(line._dash_pattern) for line in lines}) == 5


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_marked_at_the_top_and_said():
    sheet = draw("not finite")
    axes = sheet.figure.axes[0]
    crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in crosses] == [[10 / 24, 11 / 24, 0.5], [0.5]]
    assert all(min(line.get_ydata()) > 0.9 for line in crosses)
    said = " ".join(text for text, _ in texts_of(sheet))
    assert "loss not finite at 3 of 25" in said


@pytest.mark.slow
def test_a_logarithmic_axis_says_so():
    sheet = draw("huge naive")
    assert sheet.figure.axes[0].get_yscale() == "log"
    assert "loss (log scale)" in [text for text, _ in texts_of(sheet)]


@pytest.mark.slow
def test_several_pairs_have_a_band_of_one_standard_deviation():
    axes = draw("pairs").figure.axes[0]
    (path,) = axes.collections[0].get_paths()
    at_middle = path.vertices[np.isclose(path.vertices[:, 0], 0.5), 1]
    barriers = 2.2 * np.array([0.8, 1.0, 1.3])
    middle, spread = 0.11 + barriers.mean(), barriers.std(ddof=1)
    assert [at_middle.min(), at_middle.max()] == pytest.approx([middle - spread, middle + spread])


@pytest.mark.slow
def test_the_legend_tells_the_splits_of_a_set_apart():
    said = [text for text, _ in texts_of(draw("splits of a set"))]
    heads = ("d.npz, test, 1,000 examples", "d.npz, train, 9,000 examples")
    small = [text for text in said if ": barrier " in text]
    assert small
    assert [text.split(":")[0] for text in small] == ["test", "train"] * (len(small) // 2)
    assert all(head in said for head in heads)


@pytest.mark.slow
def test_data_sets_stand_side_by_side_on_one_scale():
    axes = draw("two sets").figure.axes
    assert len(axes) == 4
    assert axes[0].get_ylim() == axes[2].get_ylim()
    assert axes[0].get_position().x1 < axes[2].get_position().x0
