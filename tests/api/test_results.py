"""What results print, and how a notebook shows them."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch

import deepalign_cli as da
from deepalign_cli.api.results import Barrier, LandscapeResult, Picture
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import DeepalignError, MissingExtra, UsageError
from tests.api.builders import examples, net

# Labels that the first network gives, so that there is a barrier.
X = 3 * examples()[0]
OPTIONS = {"data": (X, net(0)(X).argmax(1)), "points": 3, "method": "weights", "restarts": 1}


@pytest.fixture(scope="module")
def barrier() -> Barrier:
    return da.barrier(net(0), net(1), net(2), **OPTIONS)


@pytest.fixture(scope="module")
def landscape() -> LandscapeResult:
    return da.landscape(net(0), net(1), **OPTIONS)


@pytest.mark.slow
def test_results_are_told_in_a_line(barrier: Barrier, landscape: LandscapeResult) -> None:
    alignment, merged = da.align(net(0), net(1)), da.merge([net(0), net(1)], method="none")
    assert repr(alignment).startswith("Alignment(deepalign: ")
    assert repr(merged) == "Merged(2 networks; 6 tensors, 653 numbers)"
    none, weights = ((barrier.curves[i].barrier + barrier.curves[i + 2].barrier) / 2 for i in (0, 1))
    figures = f"none {none:.4g}, weights {weights:.4g}"
    assert repr(barrier) == f"Barrier({figures}; cross-entropy on data, 40 examples)"
    assert repr(landscape).startswith("Landscape(A: A ")
    assert repr(da.verify(net(0), net(0))).startswith(
        "Verdict(the same up to the spec (traced and checked): "
    )
    read = da.verify(net(0).state_dict(), net(0).state_dict())
    assert repr(read).startswith("Verdict(the same up to the spec (read from names and shapes, with ")
    assert repr(alignment.symmetry.spec) == "Spec(a trace of NamedMLP: 5 tensors, groups fc1, fc2)"
    assert repr(read.rests_on) == "Spec(chain of linear layers: 6 tensors, groups fc1, fc2)"
    assert repr(da.open(net(0))) == "Checkpoint('network', 6 tensors)"
    for result in (alignment, merged, barrier, landscape):
        assert "\n" not in repr(result)


def test_a_merged_network_is_saved_as_any_state_dict_is(tmp_path: Path) -> None:
    merged = da.merge([net(0), net(1)], method="none")
    torch.save(merged, tmp_path / "m.pt")
    for loaded in (
        torch.load(tmp_path / "m.pt", weights_only=True),
        dict(open_checkpoint(tmp_path / "m.pt")),
    ):
        assert list(loaded) == list(merged)
        assert all(torch.equal(loaded[name], w) for name, w in merged.items())


def test_a_barrier_has_the_figures_of_its_last_method(barrier: Barrier) -> None:
    assert [curve.method for curve in barrier.curves] == ["none", "weights"] * 2
    assert barrier.curve is barrier.curves[1]
    assert barrier.barrier == barrier.curves[1].barrier
    table = barrier.to_dict()
    assert json.loads(json.dumps(table)) == table
    assert [path["losses"] for path in table["paths"]] == [list(c.losses) for c in barrier.curves]
    assert table["notes"] == list(barrier.notes)


def test_every_point_is_a_row(barrier: Barrier, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = barrier.to_dataframe()
    assert list(frame) == ["moving", "data", "method", "alpha", "loss", "accuracy"]
    assert len(frame) == 2 * 2 * 3
    chosen = frame[(frame.moving == "C") & (frame.method == "weights")]
    assert tuple(chosen.loss) == barrier.curves[3].losses
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match="pandas"):
        barrier.to_dataframe()


def test_a_landscape_has_its_points(landscape: LandscapeResult) -> None:
    table = landscape.to_dict()
    assert json.loads(json.dumps(table)) == table
    assert [len(row) for row in table["losses"]] == [3] * 3
    assert set(table["at"]) == set(table["places"])


@pytest.mark.slow
def test_a_notebook_shows_a_table_and_the_picture(barrier: Barrier, landscape: LandscapeResult) -> None:
    alignment = da.align(net(0), net(1), method="weights")
    for result, cells in ((barrier, 4 * 5), (landscape, 3 * 2), (alignment, 2 * 3)):
        html = result._repr_html_()
        svg = html[html.find("<svg") :] if "<svg" in html else ""
        table = html[: html.index("</table>") + len("</table>")]
        root = ET.fromstring(f"<div>{table}</div>")
        assert len(list(root.iter("td"))) == cells
        if result is not alignment:
            assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
            assert table + svg == html  # no XML declaration, which a page may not hold in its middle
    assert ET.fromstring(barrier.plot()._repr_svg_()).tag.endswith("svg")


@pytest.mark.slow
def test_names_are_escaped() -> None:
    spec = da.Spec.parse('[axes]\n"a<b>.weight" = "k 3"\n"c.weight" = "5 k"\n')
    weights = {"a<b>.weight": torch.randn(4, 3), "c.weight": torch.randn(5, 4)}
    odd = {"<i>": (torch.randn(4, 12), torch.zeros(4).long())}
    shown = da.barrier(net(0), net(1), **{**OPTIONS, "data": odd})._repr_html_()
    assert "<td>data, &lt;i&gt;, 4 examples</td>" in shown
    assert da.align(weights, weights, spec=spec, method="none")._repr_html_().count("<td>") == 3


def test_without_matplotlib_the_table_is_shown_alone(
    barrier: Barrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert barrier._repr_html_().endswith("</table>")
    with pytest.raises(MissingExtra, match="matplotlib"):
        barrier.plot()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["curve.png", "curve.svg", "curve.html"])
def test_pictures_are_files_where_they_are_named(
    name: str, barrier: Barrier, landscape: LandscapeResult, tmp_path: Path
) -> None:
    for result in (barrier, landscape):
        (tmp_path / name).unlink(missing_ok=True)
        assert result.plot(tmp_path / name, title="what it costs") is None
        assert (tmp_path / name).stat().st_size > 1000
        with pytest.raises(UsageError, match="exists"):
            result.plot(str(tmp_path / name))
        result.plot(str(tmp_path / name), force=True)
    with pytest.raises(DeepalignError, match="deepalign cannot draw"):
        barrier.plot(tmp_path / "curve.doc")


def test_a_picture_is_an_svg() -> None:
    assert Picture("<svg/>")._repr_svg_() == "<svg/>"
