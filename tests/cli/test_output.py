import io
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from deepalign_cli.cli.output import Output, TextTable, console, jsonable, printable, remaining, write_json
from deepalign_cli.errors import UsageError
from deepalign_cli.progress import quantity
from deepalign_cli.symmetry.spec import Activation

ROWS = [["layer1.0.conv1.weight", 512, 0.25, "k r 3 3"], ["fc", 10, math.nan, "10 r*16"]]
COLUMNS = ["tensor", "units", "distance", "axes"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


def test_the_three_modes(capsys: pytest.CaptureFixture[str]) -> None:
    def human(console: Console) -> None:
        console.print("Aligned.")

    for flags in ({}, {"json": True}, {"quiet": True}):
        out = Output("align", **flags)
        out.note("B was f16")
        out.result({"output": Path("o"), "residual": math.inf}, human, Path("o"))
        stdout, stderr = capsys.readouterr()
        if flags.get("json"):
            expected = (
                '{"schema": 1, "command": "align", "output": "o", "residual": null, "notes": ["B was f16"]}\n'
            )
            assert (stdout, stderr) == (expected, "")
        elif flags.get("quiet"):
            assert (stdout, stderr) == ("o\n", "")
        else:
            assert (stdout, stderr) == ("Aligned.\n", "note: B was f16\n")


def test_quiet_without_a_path_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Output("demo", quiet=True).result({}, lambda console: console.print("much"))

    assert capsys.readouterr() == ("", "")


def test_json_without_notes_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    Output("demo", json=True).result({}, lambda console: None)

    assert json.loads(capsys.readouterr().out) == {"schema": 1, "command": "demo"}


def test_json_and_quiet_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude"):
        Output("align", json=True, quiet=True)


# --- layout ---------------------------------------------------------------------------------------


def test_off_a_terminal_everything_is_plain_and_on_one_line() -> None:
    stream = io.StringIO()
    console(stream).print(TextTable(COLUMNS, ROWS, "Groups"))
    console(stream).print("word " * 50 + "[bold]not markup[/bold] :smile:")

    lines = stream.getvalue().splitlines()
    assert lines[:4] == [
        "Groups",
        "tensor                 units  distance  axes",
        "layer1.0.conv1.weight    512      0.25  k r 3 3",
        "fc                        10       nan  10 r*16",
    ]
    assert lines[4] == "word " * 50 + "[bold]not markup[/bold] :smile:"
    assert len(lines) == 5


def test_off_a_terminal_a_wide_table_is_not_cut() -> None:
    stream = io.StringIO()
    console(stream).print(TextTable(["name", "note"], [["n" * 300, "m" * 300]]))

    assert stream.getvalue().splitlines()[1] == "n" * 300 + "  " + "m" * 300


@pytest.mark.parametrize("columns", [20, 40, 60, 100])
def test_on_a_terminal_a_table_is_folded_never_cut(
    columns: int, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    console(terminal).print(TextTable(COLUMNS, ROWS, "Groups"))

    shown = re.sub(r"\x1b\[\d*m", "", terminal.getvalue())
    assert "…" not in shown
    assert all(len(line) <= columns for line in shown.splitlines())
    for cell in ("layer1.0.conv1.weight", "512", "0.25", "k r 3 3", "10 r*16"):
        assert cell.replace(" ", "") in shown.replace("\n", "").replace(" ", "")


def test_a_dumb_terminal_gets_plain_text(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    console(terminal).print(TextTable(COLUMNS, ROWS))

    assert terminal.getvalue().startswith("tensor                 units  distance  axes\n")


def test_colours_only_where_they_are_wanted(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    elsewhere = io.StringIO()
    console(elsewhere).print("x", style="red")
    console(terminal).print("x", style="red")
    assert "\x1b[31m" not in elsewhere.getvalue() + terminal.getvalue()

    monkeypatch.delenv("NO_COLOR")
    console(terminal).print("x", style="red")
    assert "\x1b[31m" in terminal.getvalue()


def test_a_hostile_name_cannot_steer_the_terminal(terminal: Terminal) -> None:
    console(terminal).print(TextTable(["na\x1bme"], [["\x1b[2Jevil\x9b"]], "\x07"))
    console(terminal).print("\x1b]0;title\x07")

    assert "\x1b]" not in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\x9b" not in terminal.getvalue()
    assert "\\x1b[2Jevil\\x9b" in terminal.getvalue()


def test_rows_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(ValueError, match="1 cells, the table 2"):
        TextTable(["a", "b"], [[1]])


def test_none_and_truth_in_a_table() -> None:
    stream = io.StringIO()
    console(stream).print(TextTable(["a", "b", "c"], [[None, True, False]]))

    assert stream.getvalue() == "a  b    c\n-  yes  no\n"


# --- progress -------------------------------------------------------------------------------------


def test_progress_is_on_a_terminal_only(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with Output("align").progress("Matching", total=3) as progress:
        progress()
    assert sys.stderr.getvalue() == ""

    monkeypatch.setattr(sys, "stderr", terminal)
    with Output("align", quiet=True).progress("Matching", total=3) as progress:
        progress()
    assert terminal.getvalue() == ""

    with Output("align").progress("Matching [fc]", total=4, unit="sweep") as progress:
        progress()
        progress(2)
    assert "sweep/s" in terminal.getvalue()
    assert "Matching [fc]" in terminal.getvalue()
    assert "75%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # it leaves nothing behind


def test_progress_claims_nothing_before_the_first_step(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    with Output("align").progress("aligning", total=4):
        pass
    assert "aligning" in terminal.getvalue()
    assert "%" not in terminal.getvalue()

    with Output("align").progress("aligning", total=4) as progress:
        progress.part(0.5, "reading")()
        progress.part(0.5, "writing")
    last = terminal.getvalue().rpartition("writing")[2]
    assert "50%" in last


def test_stages_share_one_bar(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    with Output("merge").progress("opening") as progress:
        progress.part(0.75, "aligning")(1)
        progress.part(1.0, "writing", total=10)(4)
    shown = terminal.getvalue()
    assert shown.index("opening") < shown.index("writing")
    assert "85%" in shown.rpartition("writing")[2]
    assert "ETA 0:00:0" in shown.rpartition("writing")[2]
    assert "/s" not in shown  # no unit is known


@pytest.mark.parametrize(
    ("elapsed", "share", "expected"),
    [
        (10, 0.5, "ETA 0:00:10"),
        (90, 0.25, "ETA 0:04:30"),
        (7, 1.0, "ETA 0:00:00"),
        (None, 0.5, ""),
        (5, 0, ""),
    ],
)
def test_the_remaining_time_is_by_the_mean_speed_so_far(
    elapsed: float | None, share: float, expected: str
) -> None:
    assert remaining(elapsed, share) == expected


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0, "", "0"),
        (12.345, "step", "12.3 step"),
        (999.7, "B", "1 kB"),
        (2.5e6, "B", "2.5 MB"),
        (1e15, "B", "1000 TB"),
        (1e9, "", "1 G"),
    ],
)
def test_quantity(value: float, unit: str, expected: str) -> None:
    assert quantity(value, unit) == expected


# --- JSON -----------------------------------------------------------------------------------------


def test_jsonable() -> None:
    value = {
        "path": Path("a/b"),
        1: (math.nan, -math.inf, 1.5),
        "enum": Activation.RELU,
        "tensor": torch.tensor([1.0, math.inf]),
        "scalar": np.float32(0.5),
        "generator": (i for i in range(2)),
        "nothing": None,
        "yes": True,
    }

    assert jsonable(value) == {
        "path": "a/b",
        "1": [None, None, 1.5],
        "enum": "relu",
        "tensor": [1.0, None],
        "scalar": 0.5,
        "generator": [0, 1],
        "nothing": None,
        "yes": True,
    }


def test_json_is_readable_and_always_valid() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    write_json(stream, {"a": "Größe"})
    write_json(stream, {"a": "not UTF-8: \udcff"})
    stream.flush()

    assert stream.buffer.getvalue() == b'{"a": "Gr\xc3\xb6\xc3\x9fe"}\n{"a": "not UTF-8: \\udcff"}\n'


@pytest.mark.slow
@given(st.text())
def test_printable_text_has_no_control_characters(text: str) -> None:
    shown = printable(text)

    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown)
    assert printable(shown) == shown
