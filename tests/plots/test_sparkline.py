import math

import pytest

from deepalign_cli.plots.sparkline import sparkline


def test_the_lowest_and_the_highest_value_get_the_lowest_and_the_highest_mark():
    assert sparkline([0.0, 1.0, 0.5]) == "▁█▅"


def test_values_between_rise_with_their_marks():
    line = sparkline([i / 7 for i in range(8)])
    assert line == "▁▂▃▄▅▆▇█"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_marked_and_sets_no_range(value: float):
    assert sparkline([0.0, value, 1.0]) == "▁!█"


def test_equal_values_are_lowest():
    assert sparkline([2.3, 2.3, 2.3]) == "▁▁▁"


def test_nothing_finite():
    assert sparkline([math.nan, math.inf]) == "!!"
    assert sparkline([]) == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk", None, "no such encoding"])
def test_a_stream_without_blocks_gets_ascii(encoding: str | None):
    line = sparkline([0.0, 0.5, 1.0, math.nan], encoding=encoding)
    assert line == "_=#!"
    assert line.isascii()


def test_a_range_from_outside_makes_lines_compare():
    assert sparkline([0.0, 1.0], low=0.0, high=2.0) == "▁▅"
    assert sparkline([-1.0, 9.0], low=0.0, high=1.0) == "▁█"


def test_a_range_beyond_floats_does_not_overflow():
    assert sparkline([-1.7e308, 1.7e308]) == "▁█"


def test_more_values_than_there_is_room_for():
    values = [0.0] * 100
    values[37] = 1.0
    line = sparkline(values, width=25)
    assert line == "▁" * 9 + "█" + "▁" * 15  # a narrow peak is not lost
    assert sparkline([*values[:99], math.nan], width=25) == line[:-1] + "!"
    assert sparkline([0.0, 1.0], width=25) == "▁█"
