"""The pictures and tables of points that are written, and where they may not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepalign_cli.operations import barrier as operation
from tests.cli.subjects import (
    POINTS,
    WEIGHTS,
    given,
    overflowing,
    refused,
)
from tests.operations.making import deepalign, listing, pair


@pytest.mark.slow
def test_quiet_gives_the_path_of_what_was_written(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    how = ("barrier", a, b, *given(tmp_path), "-m", "none", *POINTS, "-q")
    svg, rows = tmp_path / "c.svg", tmp_path / "c.csv"
    runs = [deepalign(*how), deepalign(*how, "--csv", rows), deepalign(*how, "--plot", svg)]
    both = ("--csv", rows, "--plot", svg, "--force")
    runs.append(deepalign(*how, *both))

    assert [(done.code, done.out, done.err) for done in runs] == [
        (0, "", ""), (0, f"{rows}\n", ""), (0, f"{svg}\n", ""), (0, f"{svg}\n{rows}\n", ""),
    ]  # fmt: skip
    assert deepalign(*how[:-1], *both).out.splitlines()[-2:] == [f"wrote {svg}", f"wrote {rows}"]
    assert deepalign(*how[:-1], *both, "--json").json["outputs"] == [str(svg), str(rows)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "start"),
    [
        (".png", b"\x89PNG\r\n"),
        (".svg", b"<?xml"),
        (".pdf", b"%PDF"),
        (".html", b"<!DOCTYPE html>"),
        (".pgf", b"% to include"),
    ],
)
def test_pictures(suffix: str, start: bytes, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / f"curve{suffix}"
    done = deepalign("barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "--plot", out)

    assert done.code == 0
    assert done.out.splitlines()[-1] == f"wrote {out}"
    made = out.read_bytes()
    assert made[:20].lower().startswith(start.lower())
    if suffix in (".svg", ".html", ".pgf"):
        text = made.decode()
        assert "weights" in text
        assert "a.pt" in text


@pytest.mark.slow
def test_a_plot_in_the_terminal(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    how = ("barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "--plot", "-")
    done = deepalign(*how)

    assert done.code == 0
    table, _, drawn = done.out.partition("\n\n")
    assert table.startswith("data.npz, test")
    assert len(drawn.splitlines()) > 8
    assert all(len(line) <= 80 for line in drawn.splitlines())
    assert "\x1b" not in done.out
    for more in (["--json"], ["-q"]):
        refused(deepalign(*how, *more), 2, "--plot - draws on stdout", as_json=more == ["--json"])


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--plot", "--csv"])
def test_nothing_is_overwritten_without_force(option: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "c.svg"
    out.write_text("mine")
    how = ("barrier", a, b, *given(tmp_path), "-m", "none", *POINTS, option, out)
    refused(deepalign(*how), 2, "exists")
    assert out.read_text() == "mine"

    assert deepalign(*how, "--force").code == 0
    assert out.read_text() != "mine"


@pytest.mark.parametrize("option", ["--plot", "--csv"])
@pytest.mark.parametrize("name", ["a", "data"])
def test_inputs_are_never_written_over(option: str, name: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    how, inputs = given(tmp_path), {"a": tmp_path / "a.svg", "data": tmp_path / "data.npz"}
    a = a.rename(inputs["a"])
    before = inputs[name].read_bytes()
    done = deepalign("barrier", a, b, *how, "-m", "none", *POINTS, option, inputs[name], "--force")

    assert done.code == 2
    assert inputs[name].read_bytes() == before


def test_the_picture_and_the_rows_are_not_one_file(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    out = tmp_path / "c.svg"
    done = deepalign("barrier", a, b, *given(tmp_path), "-m", "none", *POINTS, "--plot", out, "--csv", out)

    refused(done, 2, "both")
    assert not out.exists()


@pytest.mark.parametrize("name", ["curve.jpg", "curve", "curve.png.bak"])
def test_a_picture_of_an_unknown_kind_is_refused(name: str, tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    before = set(listing(tmp_path))
    done = deepalign("barrier", a, b, *given(tmp_path), "--plot", tmp_path / name)

    refused(done, 2, "deepalign cannot draw")
    assert ".png" in done.err.splitlines()[1]
    assert set(listing(tmp_path)) == before | {"factories.py", "data.npz"}


def test_a_folder_that_is_missing_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(tmp_path)
    monkeypatch.setattr(operation, "barrier_files", lambda *_: pytest.fail("it began to work"))
    for option, name in (("--plot", "gone/c.svg"), ("--csv", "gone/c.csv")):
        done = deepalign("barrier", a, b, *given(tmp_path), option, tmp_path / name)
        assert done.code in (1, 2)
        assert "gone" in done.err


@pytest.mark.slow
def test_how_a_picture_is_drawn(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    file, svg = tmp_path / "run.json", tmp_path / "p.svg"
    done = deepalign("barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "--repair", "--json")
    file.write_text(done.out)
    labels = ("--label", "none=plain", "--label", "weights + repair=ours")
    look = ("--figure-width", 4, "--font", "serif", *labels)

    assert deepalign("barrier", "--pool", file, "--plot", svg, *look).code == 0
    text = svg.read_text()
    assert 'width="288pt"' in text
    assert "serif" in text
    assert all(word in text for word in ("plain", "ours", "naive + repair"))
    drawn = deepalign("barrier", "--pool", file, "--plot", "-", *labels)
    assert "plain" in drawn.out
    assert "ours" in drawn.out
    look = ("--figure-width", 4, "--font", "serif", "--label", "A=seed 0")
    how = (*given(tmp_path), *WEIGHTS, "--points", 3, "-o", tmp_path / "l.svg")
    assert deepalign("landscape", a, b, *how, *look).code == 0
    text = (tmp_path / "l.svg").read_text()
    assert 'width="288pt"' in text
    assert "seed 0" in text
    assert "A: a.pt" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--figure-width", 5], "--figure-width is for a picture in a file"),
        (["--label", "none=x"], "--label is for a picture in a file"),
        (["--plot", "-", "--font", "serif"], "--font is for a picture in a file"),
        (["--plot", "p.png", "--figure-width", 2], "--figure-width 2 is too narrow"),
        (["--plot", "p.png", "--font", "Nope"], "the font 'Nope' is not installed"),
        (["--plot", "p.png", "--font", "a;b"], "'a;b' is not the name of a font"),
        (["--plot", "p.png", "--label", "weights=x"], "--label 'weights' names nothing here"),
        (["--plot", "p.png", "--label", "none + repair=x"], "--label 'none + repair' names nothing here"),
        (["--plot", "p.png", "--label", "x"], "'x' is not KEY=VALUE"),
    ],
)
def test_drawing_options_that_do_not_fit(
    options: list[object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(operation, "barrier_files", lambda *_: pytest.fail("it began to work"))
    refused(deepalign("barrier", a, b, *given(tmp_path), "-m", "none", *options), 2, message)
    if "--plot" in options and options[1] == "p.png" and "is not" not in message:
        more = [str(word).replace("none", "C") for word in options[2:]]
        done = deepalign("landscape", a, b, *given(tmp_path), "-m", "weights", *more)
        refused(done, 2, message.replace("none", "C"))
    assert not Path("p.png").exists()


@pytest.mark.slow
def test_a_picture_of_losses_that_are_no_numbers(tmp_path: Path) -> None:
    a, b = overflowing(tmp_path)
    for name in ("c.svg", "c.html"):
        done = deepalign("barrier", a, b, *given(tmp_path), "-m", "none", *POINTS, "--plot", tmp_path / name)
        assert (done.code, (tmp_path / name).exists()) == (1, True)
