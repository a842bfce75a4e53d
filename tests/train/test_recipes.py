from __future__ import annotations

from pathlib import Path

import pytest

from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.train.loop import Plan
from deepalign_cli.train.plans import Schedule
from deepalign_cli.train.recipes import make, read_recipe
from deepalign_cli.train.tasks import Task


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


def test_lists_become_tuples_and_whole_numbers_are_numbers() -> None:
    assert make(Task, {"data": "mnist", "side": 14}, "task") == Task("mnist", 14)
    assert make(CNN, {"channels": [1, 4], "size": 8, "pools": []}, "x") == CNN((1, 4), 8, pools=())
    assert make(Schedule, {"epochs": 2}, "schedule").epochs == 2
    assert make(Plan, {"weights": [1, 0.5, 0], "families": {"cnn": 2}}, "train").weights == (1, 0.5, 0)


@pytest.mark.parametrize(
    ("cls", "table", "told"),
    [
        (Schedule, {"epoch": 3}, "'epoch' is not an entry of it"),
        (Schedule, {"networks": 2.0}, "networks must be an integer, not 2.0"),
        (Schedule, {"networks": True}, "networks must be an integer, not True"),
        (Schedule, {"epochs": "2"}, "epochs must be a number, not '2'"),
        (Schedule, {"epochs": True}, "epochs must be a number, not True"),
        (Schedule, {"epochs": 0}, "epochs and rate must be above 0"),
        (Schedule, {"batch": 0}, "batch must be an integer of at least 1, not 0"),
        (Task, {}, "'data' is missing"),
        (Task, {"data": 3}, "data must be a string, not 3"),
        (Task, {"data": "x", "grey": 1}, "grey must be true or false, not 1"),
        (MLP, {"sizes": 3}, "sizes must be a list of numbers, not 3"),
        (MLP, {"sizes": [3, "x"]}, r"sizes must be a list of numbers, not \(3, 'x'\)"),
        (MLP, {"sizes": [3, 4], "activation": "relux"}, "there is no activation 'relux'"),
        (Plan, {"families": 2}, "families must be a table of numbers, not 2"),
        (Plan, {"families": {"a": "b"}}, "families must be a table of numbers, not {'a': 'b'}"),
        (Plan, {"weights": [1, 2]}, r"weights must be a list of 3 numbers, not \(1, 2\)"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_in_words(cls: type, table: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError, match=rf"^\[where\] of the recipe: {told}\.$"):
        make(cls, table, "where")


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^\[task\] of the recipe is not a table\.$"):
        make(Task, [3], "task")
