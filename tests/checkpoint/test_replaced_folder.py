from __future__ import annotations

from pathlib import Path

import pytest

from deepalign_cli.checkpoint import replaced_folder
from deepalign_cli.checkpoint.replaced_folder import replace_folder


def no_links(*args: object, **more: object) -> None:
    raise PermissionError


@pytest.mark.parametrize("way", ["in one step", "in steps", "without links"])
def test_the_new_takes_the_place_and_other_files_stay(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "in steps":
        monkeypatch.setattr(replaced_folder, "_exchange", replaced_folder._exchange_in_steps)
    if way == "without links":
        monkeypatch.setattr(replaced_folder.os, "link", no_links)
    old, new = tmp_path / "out", tmp_path / ".out.1.partial"
    for folder in (old, new, old / "logs"):
        folder.mkdir()
    for name in ("model.safetensors", "model-00001-of-00002.safetensors", "LICENSE", "README.md", "logs/x"):
        (old / name).write_text("old")
    (old / "link").symlink_to("LICENSE")
    old.chmod(0o750)
    for name in ("model-00001-of-00003.safetensors", "README.md"):
        (new / name).write_text("new")
    replace_folder(new, old)

    files = {str(path.relative_to(old)): path.read_text() for path in old.rglob("*") if path.is_file()}
    assert files == {
        "model-00001-of-00003.safetensors": "new", "README.md": "new", "LICENSE": "old", "logs/x": "old",
        "link": "old",
    }  # fmt: skip
    assert old.stat().st_mode & 0o777 == 0o750
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
