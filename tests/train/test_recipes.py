from __future__ import annotations

from pathlib import Path

import pytest

from deepalign_cli.errors import UsageError
from deepalign_cli.train.recipes import make, read_recipe
from deepalign_cli.train.tasks import Task
from deepalign_cli.train.zoo import Schedule


def test_a_recipe_is_its_tables_without_the_format(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('format = 1\nseed = 3\n[schedule]\nepochs = 2\n[[set]]\nkind = "mlp"\n')
    assert read_recipe(path) == {"seed": 3, "schedule": {"epochs": 2}, "set": [{"kind": "mlp"}]}


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"seed = ", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"format = 2\n", "format"),
        (b"a = " + b"[" * 5000, "cannot be read"),
    ],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: bytes, named: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=named) as caught:
        read_recipe(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no recipe"):
        read_recipe(tmp_path / "missing.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_recipe(tmp_path)


def test_lists_become_tuples() -> None:
    assert make(Task, {"data": "mnist", "side": 14}, "task") == Task("mnist", 14)
    assert isinstance(make(dict, {"pools": [1, 2]}, "x")["pools"], tuple)


@pytest.mark.parametrize(
    ("cls", "table", "named"),
    [(Schedule, {"epoch": 3}, "epoch"), (Task, {}, "data"), (Task, {"data": "x", "colour": 1}, "colour")],
)
def test_unknown_and_missing_entries_are_named(cls: type, table: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        make(cls, table, "where")
    assert "[where]" in caught.value.message
