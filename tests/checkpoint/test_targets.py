from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepalign_cli.checkpoint import check_output
from deepalign_cli.errors import DeepalignError, OutputError, UsageError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.safetensors"
    path.write_bytes(b"input")
    return path


@pytest.mark.parametrize("force", [False, True])
def test_an_input_is_never_an_output(tmp_path: Path, source: Path, force: bool) -> None:
    (tmp_path / "hard").hardlink_to(source)
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "other").write_bytes(b"input")
    outputs = [source, tmp_path / "hard", tmp_path / "soft", tmp_path / "x" / ".." / "in.safetensors"]
    for output in outputs:
        with pytest.raises(UsageError, match="is one of the inputs") as caught:
            check_output(output, force=force, inputs=[tmp_path / "other", source])
        assert caught.value.exit_code == 2
        assert caught.value.hint
    with pytest.raises(UsageError, match="is one of the inputs"):
        check_output(source, force=force, inputs=[tmp_path])
    assert source.read_bytes() == b"input"


def test_a_new_file_in_an_input_folder_is_fine(tmp_path: Path, source: Path) -> None:
    check_output(tmp_path / "new", force=False, inputs=[tmp_path, source, tmp_path / "missing"])


def test_an_existing_output_needs_force(source: Path) -> None:
    with pytest.raises(UsageError, match="exists") as caught:
        check_output(source, force=False, inputs=[])
    assert "--force" in caught.value.hint
    check_output(str(source), force=True, inputs=[])


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_file(tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    for output in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(UsageError, match=r"is a folder|is not a regular file"):
            check_output(output, force=force, inputs=[])


@pytest.mark.parametrize("name", ["missing/x", "in.safetensors/x", "n" * 300, "a\0b"])
def test_where_nothing_can_be(tmp_path: Path, source: Path, name: str) -> None:
    with pytest.raises((OutputError, UsageError)) as caught:
        check_output(tmp_path / name, force=False, inputs=[])
    assert isinstance(caught.value, DeepalignError)
    assert caught.value.hint


def test_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="no permission"):
        check_output(tmp_path / "x", force=False, inputs=[])
