import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest

from deepalign_cli.errors import MissingExtra, OutputError, UsageError
from deepalign_cli.plots import check_plot, save_curves, save_landscape
from tests.plots.builders import CURVES, LANDSCAPES

KINDS = (".png", ".svg", ".pdf", ".pgf", ".html")


def save(path: Path, name: str = "two, with a title", **options) -> bytes:
    curves, names, title = CURVES[name]
    save_curves(path, curves, names=names, title=title, **options)
    return path.read_bytes()


@pytest.mark.slow
def test_a_png_is_large_enough_to_read_and_opaque(tmp_path: Path):
    content = save(tmp_path / "p.png")
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert 900 < width < 2000
    assert 500 < height < 1500
    from PIL import Image

    with Image.open(tmp_path / "p.png") as image:
        assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two, with a title", "strange names", "long names", "never finite"])
def test_an_svg_parses_and_its_text_is_text(tmp_path: Path, name: str):
    root = ElementTree.fromstring(save(tmp_path / "p.svg", name))
    texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "naive" in texts
    if name == "two, with a title":
        assert {"A: a.pt", "aligned B: b.pt", "barrier 0.1", "What it costs"} <= set(texts)
    if name == "strange names":
        assert {"A: 模型/$a_1$.pt", r"aligned B: <b>%{y}</b>\x1b[31m\udc80.pt", "$x$ & <i>"} <= set(texts)


@pytest.mark.slow
def test_a_pdf_is_one(tmp_path: Path):
    content = save(tmp_path / "p.pdf")
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert b"CreationDate" not in content


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_picture_is_the_same_bytes(tmp_path: Path, kind: str):
    one, two = (save(tmp_path / f"{n}{kind}", "pairs") for n in "ab")
    assert one == two
    for n in "cd":
        save_landscape(tmp_path / f"{n}{kind}", LANDSCAPES["partly finite"], title="t")
    assert (tmp_path / f"c{kind}").read_bytes() == (tmp_path / f"d{kind}").read_bytes()


@pytest.mark.slow
def test_the_users_own_style_is_neither_used_nor_changed(tmp_path: Path):
    plain = save(tmp_path / "a.png")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30}):
        assert save(tmp_path / "b.png") == plain
        assert matplotlib.rcParams["font.size"] == 30


@pytest.mark.slow
def test_no_window_system_is_touched(tmp_path: Path):
    save(tmp_path / "a.png")
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("name", ["p", "p.gif", ".png", "p.png.txt"])
def test_a_suffix_that_is_no_picture(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match="deepalign cannot draw") as caught:
        check_plot(tmp_path / name)
    assert caught.value.hint == "end it in one of .png, .svg, .pdf, .pgf, .html"


@pytest.mark.slow
def test_suffixes_in_capitals(tmp_path: Path):
    assert save(tmp_path / "P.PNG").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("kind", "package"), [(".png", "matplotlib"), (".svg", "matplotlib"), (".html", "plotly")]
)
def test_a_missing_package_is_said_before_any_work(tmp_path: Path, monkeypatch, kind: str, package: str):
    for module in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=f"'{package}'") as caught:
        check_plot(tmp_path / f"p{kind}")
    assert caught.value.hint == "pip install 'deepalign[plot]'"


@pytest.mark.slow
def test_outputs_that_may_not_be_written(tmp_path: Path):
    there = tmp_path / "p.png"
    there.write_bytes(b"old")
    with pytest.raises(UsageError, match="exists"):
        save(there)
    with pytest.raises(UsageError, match="is one of the inputs"):
        save(there, force=True, inputs=[there])
    with pytest.raises(OutputError, match="no folder"):
        check_plot(tmp_path / "none" / "p.png")
    assert there.read_bytes() == b"old"
    assert save(there, force=True).startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]
