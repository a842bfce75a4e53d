from functools import cache

import numpy as np
import pytest

from deepalign_cli.plots.contours import draw_landscape
from deepalign_cli.plots.drawing import Drawing
from deepalign_cli.plots.grid import levels_of, losses_of
from deepalign_cli.plots.sheet import Sheet
from deepalign_cli.plots.style import matplotlib_style
from tests.plots.builders import LANDSCAPES, PLACES
from tests.plots.extents import outside, overlaps, texts_of


@cache
def draw(name: str, title: str = "A landscape", width: float | None = None) -> Sheet:
    with matplotlib_style():
        return draw_landscape(LANDSCAPES[name], title, Drawing(width))


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, 3.25])
@pytest.mark.parametrize("name", LANDSCAPES)
def test_no_label_is_on_another_or_cut(name: str, width: float | None):
    sheet = draw(name, width=width)
    texts = texts_of(sheet)
    assert overlaps(texts) == []
    assert outside(sheet, texts) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", LANDSCAPES)
def test_labels_are_in_the_frame_and_on_no_network(name: str):
    sheet = draw(name)
    axes = sheet.figure.axes[0]
    frame, extents = axes.get_window_extent(), dict(texts_of(sheet))
    boxes = [extents[label.get_text()] for label in axes.texts]
    assert len(boxes) == 3
    for box in boxes:
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        for place in LANDSCAPES[name].places.values():
            assert not box.contains(*axes.transData.transform(place))


@pytest.mark.slow
def test_networks_and_paths_are_where_they_are():
    axes = draw("plain").figure.axes[0]
    dots = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    paths = [
        line.get_xydata().tolist()
        for line in axes.lines
        if line.get_color() == "white" and len(line.get_xdata()) == 2
    ]
    assert dots == list(PLACES.values())
    assert paths == [[[0, 0], [20, 0]], [[0, 0], [6, 9]]]


def test_both_axes_are_in_the_same_units():
    axes = draw("plain").figure.axes[0]
    (x0, y0), (x1, y1) = axes.transData.transform([(0, 0), (1, 1)])
    assert x1 - x0 == pytest.approx(y1 - y0, rel=1e-6)


def test_levels_enclose_all_losses_and_are_spaced_by_ratio_where_the_range_asks_for_it():
    for name in LANDSCAPES:
        losses = losses_of(LANDSCAPES[name])
        levels, log = levels_of(losses)
        assert levels == sorted(set(levels))
        if levels:
            assert levels[0] <= np.nanmin(losses)
            assert np.nanmax(losses) <= levels[-1]
        assert log == (
            name
            in ("plain", "long names, close to each other", "tall", "wide", "partly finite", "many decades")
        )


@pytest.mark.parametrize("name", ["partly finite", "never finite"])
def test_what_is_not_finite_is_hatched_and_said(name: str):
    sheet = draw(name)
    assert any(c.get_hatch() for c in sheet.figure.axes[0].collections)
    assert "hatched: the loss is not finite" in [text for text, _ in texts_of(sheet)]
    assert len(sheet.figure.axes) == (2 if name == "partly finite" else 1)  # no colours, no bar
