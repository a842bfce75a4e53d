from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint

import pytest

from deepalign_cli import registry
from deepalign_cli.errors import UsageError
from deepalign_cli.registry import Table


@dataclass(frozen=True)
class Row:
    name: str


MINE, TAKEN, NO_ROW = Row("mine"), Row("one"), 3


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table[Row]:
    """Two rows, one that another package adds, and four that cannot be added."""
    names = {"mine": "MINE", "taken": "TAKEN", "no row": "NO_ROW", "gone": "GONE"}
    found = [EntryPoint(name, f"{__name__}:{where}", "things") for name, where in names.items()]
    found.append(EntryPoint("broken", "no_such_package_here:ROW", "things"))
    monkeypatch.setattr(registry, "entry_points", lambda group: found if group == "things" else [])
    return Table("thing", "things", (Row("one"), Row("two")))


def test_rows_of_other_packages_come_last(table: Table[Row]) -> None:
    assert list(table) == ["one", "two", "mine"]
    assert len(table) == 3
    assert table["mine"] is table.find("mine") is MINE
    assert table["one"] is not TAKEN


def test_what_cannot_be_loaded_is_left_out_and_named(table: Table[Row]) -> None:
    assert "taken" not in table
    starts = [
        f"The thing 'taken' ({__name__}:TAKEN) was left out: it is not a new Row.",
        f"The thing 'no row' ({__name__}:NO_ROW) was left out: it is not a new Row.",
        f"The thing 'gone' ({__name__}:GONE) was left out: ",
        "The thing 'broken' (no_such_package_here:ROW) was left out: No module named 'no_such_package_here'.",
    ]
    assert len(table.problems) == len(starts)
    assert all(problem.startswith(start) for problem, start in zip(table.problems, starts, strict=True))


def test_a_name_that_is_not_there(table: Table[Row]) -> None:
    with pytest.raises(UsageError, match="there is no thing 'three'") as caught:
        table.find("three")
    assert "there are one, two, mine" in caught.value.hint
    assert "'broken'" in caught.value.hint
    with pytest.raises(KeyError):
        table["three"]
