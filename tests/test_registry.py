"""Rows that other packages add to the tables."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint

import pytest
import typer

from deepalign_cli import registry
from deepalign_cli.aligners.methods import METHODS
from deepalign_cli.cli.main import COMMANDS, build
from deepalign_cli.combiners.table import COMBINERS
from deepalign_cli.errors import UsageError
from deepalign_cli.parameters import Parameter
from deepalign_cli.registry import RESERVED, Table

_MODULE = "own_rows_of_a_test"
_GROUP = "deepalign.tests"


@dataclass(frozen=True)
class Row:
    name: str
    parameters: tuple[Parameter, ...] = ()


WIDTH = Parameter("breadth", int, 3, "How wide.")
BUILTIN = (Row("one", (WIDTH,)), Row("two"))


def table(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path, **entries: str) -> Table[Row]:
    """A table whose entry points name things in a module of this text."""
    (tmp_path / f"{_MODULE}.py").write_text(f"from {__name__} import *\nfrom {__name__} import Row\n{text}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, _MODULE, raising=False)
    monkeypatch.setattr(registry, "_OPTIONS", {})
    points = [EntryPoint(name, f"{_MODULE}:{place}", _GROUP) for name, place in entries.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == _GROUP else [])
    return Table("row", _GROUP, BUILTIN)


def test_rows_of_other_packages_come_last(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    rows = table(
        "MINE = Row('mine', (WIDTH, Parameter('depth', int, 1, '')))", monkeypatch, tmp_path, x="MINE"
    )
    assert list(rows) == ["one", "two", "mine"]
    assert rows.find("mine").parameters[0] is WIDTH  # an option that another row has may be shared
    assert (rows.problems, len(rows)) == ([], 3)
    assert rows["mine"] is rows.find("mine")
    with pytest.raises(UsageError, match="no row 'four'") as caught:
        rows.find("four")
    assert "there are one, two, mine" in caught.value.hint
    with pytest.raises(KeyError):
        rows["four"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('no\\nluck')", "no luck"),
        ("raise SystemExit(3)", "3"),
        ("1 / 0", "division by zero"),
        ("", "has no attribute 'ROW'"),
        ("ROW = 3", "it is int, not Row"),
        ("ROW = Row('two')", "there is another 'two'"),
        ("ROW = Row('x', (Parameter('seed', int, 0, ''),))", "--seed is an option already"),
        ("ROW = Row('x', (Parameter('breadth', float, 3, 'How wide.'),))", "--breadth is an option already"),
        ("ROW = Row('x', (Parameter('how wide', int, 3, ''),))", "'how wide' cannot be an option"),
        ("ROW = Row('x', (Parameter('sure', bool, True, ''),))", "'sure' cannot be an option"),
        ("ROW = Row('x', (3,))", "'int' object has no attribute 'name'"),
    ],
)
def test_a_broken_row_is_left_out_and_said_why(
    text: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    rows = table(text, monkeypatch, tmp_path, bad="ROW")
    assert list(rows) == ["one", "two"]
    (problem,) = rows.problems
    assert problem.startswith(f"The row 'bad' ({_MODULE}:ROW) was left out: ")
    assert reason in problem
    with pytest.raises(UsageError) as caught:
        rows.find("bad")
    assert problem in caught.value.hint


def test_an_option_belongs_to_one_table(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    rows = table("ROW = Row('x', (WIDTH,))", monkeypatch, tmp_path, x="ROW")
    assert not rows.problems
    with pytest.raises(ValueError, match="--breadth is an option already"):
        Table("other", "deepalign.none", (Row("x", (WIDTH,)),))
    with pytest.raises(ValueError, match="--breadth is an option already"):
        Table("row", "deepalign.none", (Row("x", (replace(WIDTH, default=4),)),))


def test_every_option_of_the_commands_that_align_is_reserved() -> None:
    """Add a new one to `registry.RESERVED`: a plugin may not take its place."""
    commands = typer.main.get_command(build(COMMANDS)).commands  # type: ignore[attr-defined]
    tables = {p.name for rows in (METHODS, COMBINERS) for row in rows.values() for p in row.parameters}
    for name in ("align", "merge", "transport", "barrier", "landscape", "verify"):
        taken = {p.name for p in commands[name].params}
        flags = [flag for p in commands[name].params for flag in (*p.opts, *p.secondary_opts)]
        taken |= {flag.lstrip("-").replace("-", "_") for flag in flags}
        assert taken - tables - {p.rstrip("_") for p in tables} <= RESERVED, name
