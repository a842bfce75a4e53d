"""What `deepalign barrier` shows and lists: tables, sparklines, CSV."""

from __future__ import annotations

import csv
import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from deepalign_cli.cli import main as program
from deepalign_cli.cli.barrier_tables import show_curves
from deepalign_cli.measure.curve import Curve
from deepalign_cli.operations.barrier import BarrierReport, PathReport
from tests.cli.subjects import (
    ALPHAS,
    POINTS,
    WEIGHTS,
    by_method,
    given,
)
from tests.cli.test_output import Terminal
from tests.operations.making import deepalign, network, pair, save

ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")


@pytest.mark.slow
def test_the_table(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    done = deepalign("barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS)
    told = by_method(deepalign("barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "--json").json)

    title, heading, *rows = done.out.splitlines()
    assert title == "data.npz, test, 24 examples: cross-entropy, 5 points"
    headings = [
        "method",
        "barrier",
        "AUC",
        "midpoint loss",
        "midpoint accuracy",
        "seconds",
        "loss from A to B",
    ]
    assert re.split(r" {2,}", heading) == headings
    for row, name in zip(rows, ("none", "weights"), strict=True):
        method, barrier, _, loss, accuracy, _, line = re.split(r" {2,}", row)
        assert method == name
        assert float(barrier) == pytest.approx(told[name]["barrier"], rel=1e-3)
        assert float(loss) == pytest.approx(told[name]["midpoint_loss"], rel=1e-3)
        assert accuracy == f"{100 * told[name]['midpoint_accuracy']:.2f} %"
        assert len(line) == 5
    assert "note: run as NamedMLP of " in done.err
    assert "note: loss: cross-entropy, the labels are integers" in done.err


@pytest.mark.slow
def test_csv_has_every_point(tmp_path: Path) -> None:
    a, b, c = (save(network("named_mlp", seed), tmp_path / f"{n}.pt") for seed, n in enumerate("abc"))
    out, how = tmp_path / "c.csv", (*given(tmp_path), *WEIGHTS, *POINTS)
    splits = ("--split", "test", "--split", "train")
    told = deepalign("barrier", a, b, c, *how, *splits, "--csv", out, "--json").json

    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert list(rows[0]) == ["moving", "data", "method", "alpha", "loss", "accuracy"]
    assert len(rows) == 2 * 2 * 2 * 5
    for kept in told["pairs"]:
        for path in kept["paths"]:
            place = (kept["moving"], path["data"], path["method"])
            own = [row for row in rows if (row["moving"], row["data"], row["method"]) == place]
            assert [float(row["alpha"]) for row in own] == ALPHAS
            assert [float(row["loss"]) for row in own] == path["loss"]
            assert [float(row["accuracy"]) for row in own] == path["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [40, 80])
def test_on_a_narrow_terminal_nothing_is_cut(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = pair(tmp_path)
    how = ["barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS]
    plain = deepalign(*how).out.splitlines()
    terminal = Terminal()
    for name, value in {"TERM": "xterm", "NO_COLOR": "1", "COLUMNS": str(columns)}.items():
        monkeypatch.setenv(name, value)
    with redirect_stdout(terminal), redirect_stderr(io.StringIO()):
        assert program.main([str(arg) for arg in how]) == 0

    shown = ESCAPE.sub("", terminal.getvalue())
    assert "\u2026" not in shown
    assert all(len(line) <= columns for line in shown.splitlines())
    flat = re.sub(r"\s", "", shown)
    for word in plain[1].split():
        assert word in flat
    for row in plain[2:]:
        for cell in re.split(r" {2,}", row)[:5]:  # the seconds differ from run to run
            assert cell.replace(" ", "") in flat


@pytest.mark.slow
def test_in_a_pipe_nothing_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "n" * 120
    a, b = (save(network("named_mlp", seed), tmp_path / f"{long}{seed}.pt") for seed in range(2))
    done = deepalign("barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS)

    assert len(done.out.splitlines()) == 4
    assert "\u2026" not in done.out + done.err
    apart = deepalign("barrier", a, b, *WEIGHTS)
    assert max(map(len, apart.out.splitlines())) > 100
    assert "\u2026" not in apart.out


def report(points: int) -> BarrierReport:
    """Curves of two methods, of a narrow peak."""
    alphas = tuple(i / (points - 1) for i in range(points))
    losses = tuple(float(i == points // 3) for i in range(points))
    names = ("none", "weights")
    paths = tuple(PathReport("b", n, (Curve(n, alphas, losses, losses, data="d"),), (1, 1)) for n in names)
    return BarrierReport(paths, alphas, "mse", ("d",), 0.0, (), ("weights",), ("a", "b"), (9,))


@pytest.mark.parametrize(("columns", "length"), [(100, 23), (120, 43), (300, 200), (None, 25)])
def test_a_line_takes_the_room_there_is(columns: int | None, length: int) -> None:
    stream = io.StringIO() if columns is None else Terminal()
    console = Console(file=stream, width=columns, force_terminal=columns is not None, no_color=True)
    show_curves(console, report(200))
    lines = [line for line in ESCAPE.sub("", stream.getvalue()).splitlines() if re.search("[▁-█]", line)]

    assert [len(re.sub("[^▁-█]", "", line)) for line in lines] == [length] * 2
    assert all("█" in line and cell_len(line) <= (columns or 200) for line in lines)


@pytest.mark.slow
def test_a_stream_without_block_characters_gets_others(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    how = ["barrier", a, b, *given(tmp_path), *WEIGHTS, *POINTS, "--plot", "-"]
    with redirect_stdout(stream), redirect_stderr(io.StringIO()):
        assert program.main([str(arg) for arg in how]) == 0
    stream.flush()

    assert raw.getvalue().decode("ascii").startswith("data.npz, test")
    assert b"\\u" not in raw.getvalue()


@pytest.mark.slow
def test_the_report_on_weights_has_a_row_for_each_tensor_and_method(tmp_path: Path) -> None:
    a, b = pair(tmp_path)
    shown = deepalign("barrier", a, b, *WEIGHTS, "-m", "deepalign", "--sketches", 1).out.splitlines()
    told = deepalign("barrier", a, b, *WEIGHTS, "-m", "deepalign", "--sketches", 1, "--json").json

    headings = ["tensor", "method", "distance", "correlation", "variance kept"]
    assert re.split(r" {2,}", shown[1]) == headings
    methods = ["none", "weights", "deepalign"]
    rows = [re.split(r" {2,}", line) for line in shown[2:11]]
    assert [row[:2] for row in rows] == [
        [f"fc{i}.weight", method] for i in (1, 2, 3) for method in methods
    ]  # fmt: skip
    for name, method, *cells in rows:
        layers = told["weights_only"][method]["layers"]
        (layer,) = [layer for layer in layers if layer["name"] == name]
        values = [layer[key] for key in ("distance", "correlation", "variance")]
        assert cells == ["-" if value is None else f"{value:.3f}" for value in values]
    assert [line.split(":")[0] for line in shown[11:]] == methods
