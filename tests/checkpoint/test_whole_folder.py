"""A folder is there whole, or not at all."""

from pathlib import Path

import pytest

from deepalign_cli.checkpoint.whole_folder import created_folder
from deepalign_cli.errors import OutputError, UsageError


def test_a_new_folder_is_hidden_until_all_went_well(tmp_path: Path) -> None:
    with created_folder(tmp_path / "out") as place:
        (place / "weights").write_text("x")
        assert [path.name for path in tmp_path.iterdir()] == [place.name]
        assert place.name.startswith(".out.")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "weights").read_text() == "x"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with created_folder(tmp_path / "out") as place:
            (place / "weights").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_one_that_exists_is_written_to_as_it_is(tmp_path: Path) -> None:
    with created_folder(tmp_path) as place:
        assert place == tmp_path


def test_a_name_that_is_taken_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    def overtaken() -> None:
        with created_folder(tmp_path / "out"):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "other").touch()

    with pytest.raises(UsageError, match="exists"):
        overtaken()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "other"]


def test_what_the_system_refuses_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"), created_folder(tmp_path / "no" / "out"):
        pass
