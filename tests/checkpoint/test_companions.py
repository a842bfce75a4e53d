from __future__ import annotations

import os
from pathlib import Path

import pytest

from deepalign_cli.checkpoint import companions as module
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.companions import companions, is_companion
from tests.operations.test_merged_folder import COMPANIONS, folders


@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
     "special_tokens_map.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
     "chat_template.jinja", "preprocessor_config.json"],
)  # fmt: skip
def test_companions(name: str) -> None:
    assert is_companion(name)


@pytest.mark.parametrize(
    "name",
    ["tokenizer.py", "vocab.py", "config.json.py", "model.safetensors", "model.safetensors.index.json",
     ".model", "..model", "vocab", "config.JSON", "README.md", "tokenizer/x.json",
     "vocab\n.json", "merges.txt.exe"],
)  # fmt: skip
def test_no_companions(name: str) -> None:
    assert not is_companion(name)


def test_links_and_what_is_too_long_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 30)
    a, _ = folders(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("key")
    (a / "vocab.json").symlink_to(secret)
    (a / "vocab.txt").write_text("x" * 31)
    (a / "tokenizer.model").mkdir()
    (a / "tokenizer_config.json").symlink_to("tokenizer.json")
    os.mkfifo(a / "added_tokens.json")
    found, notes = companions(open_checkpoint(a))

    assert set(found) == {*COMPANIONS, "tokenizer_config.json"}
    assert set(notes) == {
        "'vocab.json' was left out: it is a link that leads out of its folder",
        "'vocab.txt' was left out: it is longer than 30 bytes",
        "'tokenizer.model' was left out: it is not a plain file",
        "'added_tokens.json' was left out: it is not a plain file",
    }
