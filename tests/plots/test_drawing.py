"""The width of pictures, their font, what they call things, and pictures for LaTeX."""

from __future__ import annotations

import logging
import re
import struct
from pathlib import Path

import pytest

from deepalign_cli.errors import UsageError
from deepalign_cli.plots import Drawing, check_plot, save_curves, save_landscape
from tests.plots.builders import CURVES, LANDSCAPES, curve
from tests.plots.extents import texts_of
from tests.plots.test_curves import draw


def curves(path: Path, drawing: Drawing, name: str = "two, with a title") -> bytes:
    save_curves(path, CURVES[name][0], names=CURVES[name][1], drawing=drawing)
    return path.read_bytes()


def landscape(path: Path, drawing: Drawing) -> bytes:
    save_landscape(path, LANDSCAPES["plain"], drawing=drawing)
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("save", [curves, landscape])
@pytest.mark.parametrize("width", [3.25, 5.5, 12.0])
def test_the_width(save, width: float, tmp_path: Path):
    content = save(tmp_path / "p.png", Drawing(width))
    assert struct.unpack(">I", content[16:20])[0] == pytest.approx(150 * width, abs=1)
    assert f'width="{72 * width:g}pt"' in save(tmp_path / "p.svg", Drawing(width)).decode()
    page = save(tmp_path / "p.html", Drawing(width)).decode()
    assert f'"width":{round(96 * width)}' in page
    assert int(re.findall(r"min-width: (\d+)px", page)[0]) <= 96 * width


@pytest.mark.slow
def test_a_narrow_picture_has_its_legend_below(tmp_path: Path):
    for width, below in ((3.25, True), (8.0, False)):
        extents = dict(texts_of(draw("five methods", width)))
        frame = draw("five methods", width).figure.axes[0].get_window_extent()
        assert (extents["naive"].y1 < frame.y0) == below
        assert (extents["naive"].x0 > frame.x1) != below


@pytest.mark.parametrize(("save", "width"), [(curves, 1.5), (landscape, 2.0)])
def test_too_narrow_a_picture(save, width: float, tmp_path: Path):
    with pytest.raises(UsageError, match="too narrow"):
        save(tmp_path / "p.png", Drawing(width))
    assert not (tmp_path / "p.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("save", "font"), [(curves, "serif"), (landscape, "DejaVu Sans Mono")])
def test_the_font(save, font: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        for kind in ("png", "svg", "pdf", "html", "pgf"):
            save(tmp_path / f"p.{kind}", Drawing(font=font))
    assert caplog.records == []
    assert f"'{font}'" in (tmp_path / "p.svg").read_text() or f" {font}," in (tmp_path / "p.svg").read_text()
    page = (tmp_path / "p.html").read_text()
    assert f'"family":"{font}, DejaVu Sans' in page
    assert f"14px/1.5 {font}, DejaVu Sans" in page
    assert (tmp_path / "p.png").read_bytes() != save(tmp_path / "q.png", Drawing())


@pytest.mark.parametrize("font", ["No Such Font", "cursive"])
def test_a_font_that_is_not_there(font: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with pytest.raises(UsageError, match=f"the font '{font}' is not installed"):
        check_plot(tmp_path / "p.png", drawing=Drawing(font=font))
    assert caplog.records == []
    check_plot(tmp_path / "p.html", drawing=Drawing(font=font))  # who looks at it may have it


@pytest.mark.parametrize("font", ["", "a;b", "</style>", 'a"b', "a  b", "{}", "x\ny"])
def test_what_is_no_font(font: str):
    with pytest.raises(UsageError, match="is not the name of a font"):
        Drawing(font=font)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["svg", "html"])
def test_labels_of_curves(kind: str, tmp_path: Path):
    labels = {"naive": "plain average", "deepalign": "<ours>"}
    text = curves(tmp_path / f"p.{kind}", Drawing(labels=labels)).decode()
    assert "plain average" in text
    assert "&lt;ours&gt;" in text
    assert "<ours>" not in text
    assert "naive" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)


def test_labels_of_networks(tmp_path: Path):
    text = landscape(tmp_path / "p.svg", Drawing(labels={"A": "seed 0", "aligned B": "seed 1"})).decode()
    assert "seed 0" in text
    assert "seed 1" in text
    assert "A: a.pt" not in text
    assert "B: b.pt" in text


@pytest.mark.parametrize("labels", [{"weights": "x"}, {"deepalign": "x", "none": "x"}])
def test_labels_that_are_wrong(labels: dict[str, str], tmp_path: Path):
    with pytest.raises(UsageError, match="--label"):
        curves(tmp_path / "p.png", Drawing(labels=labels))


@pytest.mark.slow
def test_a_picture_for_latex(tmp_path: Path):
    """No LaTeX is needed for it, and names are text, not commands."""
    path, odd = tmp_path / "p.pgf", r"a_1 & {b}$x$ #2 50% \input{x} ~^"
    save_curves(path, [curve("none", 2.2), curve("deepalign", 0.1)], title=odd, names=("a_1.pt", "b"))
    text = path.read_text()

    assert text.count(r"\begin{pgfpicture}") == text.count(r"\end{pgfpicture}") == 1
    assert text.count(r"\begin{pgfscope}") == text.count(r"\end{pgfscope}") > 20
    assert r"a\_1 \& \{b\}\$x\$ \#2 50% \textbackslash{}input\{x\} \textasciitilde{}^" in text
    assert r"A: a\_1.pt" in text
    assert r"\ensuremath{\alpha}" in text
    assert r"\sffamily" in text
    assert text.isascii()
    assert r"\rmfamily" in curves(tmp_path / "q.pgf", Drawing(font="serif")).decode()
