import re
import sys

import pytest
from rich.cells import cell_len

from deepalign_cli.errors import MissingExtra
from deepalign_cli.plots.terminal import terminal_plot
from tests.plots.builders import CURVES

ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("name", CURVES)
def test_no_line_is_wider_than_the_terminal(name: str, width: int):
    curves, names, _ = CURVES[name]
    lines = terminal_plot(curves, width, 16, colour=False, names=names).splitlines()
    assert max(map(cell_len, lines)) <= width
    assert max(map(cell_len, lines)) >= width - 1  # and it is used


def test_without_colour_there_is_no_escape_code():
    curves, names, _ = CURVES["strange names"]
    text = terminal_plot(curves, 80, 16, colour=False, names=names)
    assert "\x1b" not in text
    assert r"\x1b[31m" in text


def test_colours_are_of_the_text_alone():
    text = terminal_plot(CURVES["five methods"][0], 80, 16)
    codes = set(ESCAPE.findall(text))
    assert {"38;5;33", "38;5;245"} <= codes
    assert all(code == "0" or code.startswith("38;5;") for code in codes)  # no background, no style
    plain = terminal_plot(CURVES["five methods"][0], 80, 16, colour=False)
    assert [line.rstrip() for line in ESCAPE.sub("", text).splitlines()] == plain.splitlines()


def test_the_legend_names_methods_and_barriers():
    text = terminal_plot(CURVES["five methods"][0], 80, 16, colour=False, names=("a.pt", "b.pt"))
    assert re.search(r"naive +barrier 2\.2\n", text)
    assert re.search(r"━●━ deepalign +barrier 0\.1\n", text)
    assert re.search(r"A: a\.pt +aligned B: b\.pt\n", text)


def test_the_peak_is_above_the_ends():
    lines = terminal_plot(CURVES["one"][0], 60, 20, colour=False).splitlines()[2:-4]
    rows = {column: [i for i, line in enumerate(lines) if line[column] not in " │"] for column in (6, 31, 56)}
    assert min(rows[31]) < min(rows[6])
    assert min(rows[31]) < min(rows[56])


def test_ascii_alone_where_there_is_no_unicode():
    for curves, names, _ in CURVES.values():
        text = terminal_plot(curves, 80, 16, colour=False, names=names, unicode=False)
        assert text.isascii()
    text = terminal_plot(CURVES["not finite"][0], 80, 16, colour=False, unicode=False)
    assert "! loss not finite at alpha = 0.5" in text
    assert re.search(r"^-o- deepalign", text, re.MULTILINE)


def test_what_is_not_finite_is_marked():
    plot = terminal_plot(CURVES["not finite"][0], 80, 16, colour=False).splitlines()[2]
    assert plot.count("\N{MULTIPLICATION SIGN}") == 3


def test_a_plot_for_each_data_set_and_nothing_left_behind():
    once = terminal_plot(CURVES["two sets"][0], 80, 12, colour=False)
    assert "loss on train\n" in once
    assert "loss on test\n" in once
    assert terminal_plot(CURVES["two sets"][0], 80, 12, colour=False) == once


def test_plotext_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "plotext", None)
    with pytest.raises(MissingExtra) as caught:
        terminal_plot(CURVES["one"][0])
    assert caught.value.hint == "pip install 'deepalign[plot]'"
