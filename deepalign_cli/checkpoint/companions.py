"""The files beside a network's weights that belong to it: its configuration and its tokenizer. Never code."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from deepalign_cli.checkpoint import DTYPES, Checkpoint
from deepalign_cli.checkpoint.atomic import write_bytes
from deepalign_cli.checkpoint.folder import inside
from deepalign_cli.checkpoint.hub import fetch_beside, parse_reference
from deepalign_cli.errors import CheckpointError

LIMIT = 100_000_000
_TOKENIZER = re.compile(
    r"(special_tokens_map|added_tokens)\.json|tokenizer[\w.-]*\.(json|model)|vocab[\w.-]*\.(json|txt)"
    r"|merges\.txt|[\w-][\w.-]*\.model"
)
_WANTED = re.compile(
    r"(config|generation_config|preprocessor_config|processor_config)\.json|chat_template[\w.-]*\.(json|jinja)"
)


def is_companion(name: str) -> bool:
    """Whether a file of this name belongs to a network besides its weights."""
    is_wanted = _WANTED.fullmatch(name) is not None or is_tokenizer(name)
    return is_wanted and not name.endswith(".index.json")


def is_tokenizer(name: str) -> bool:
    """Whether a file of this name is part of a tokenizer; those of two do not go together in one folder."""
    return _TOKENIZER.fullmatch(name) is not None


def other_tokenizer(folder: Path, names: Collection[str]) -> list[Path]:
    """The files of a tokenizer in a folder that are not of the one among these names, if there is one."""
    if not any(map(is_tokenizer, names)):
        return []
    return [path for path in sorted(folder.iterdir()) if is_tokenizer(path.name) and path.name not in names]


def companions(checkpoint: Checkpoint) -> tuple[Mapping[str, Path], tuple[str, ...]]:
    """The companions of a folder or of what came from the Hub, by name; and notes on those left out.

    A single file of this machine has none. Left out is what is longer than `LIMIT`, no plain file, or a link
    out of the folder.

    Raises:
        CheckpointError, UsageError: they could not be fetched.
    """
    if checkpoint.origin is not None:
        return fetch_beside(parse_reference(checkpoint.origin), is_companion, LIMIT)
    if not checkpoint.path.is_dir():
        return {}, ()
    files, notes = {}, []
    for name in sorted(entry.name for entry in checkpoint.path.iterdir() if is_companion(entry.name)):
        problem = _problem(checkpoint.path, name)
        if problem:
            notes.append(f"'{name}' was left out: {problem}")
        else:
            files[name] = checkpoint.path / name
    return files, tuple(notes)


def _problem(folder: Path, name: str) -> str | None:
    try:
        path = inside(folder, name)
    except CheckpointError:
        return "it is a link that leads out of its folder"
    if not path.is_file():
        return "it is not a plain file"
    return f"it is longer than {LIMIT:,} bytes" if path.stat().st_size > LIMIT else None


def name_dtype(config: Path, dtype: str) -> None:
    """Have a config.json name the type of the weights, a code of safetensors, where it names one."""
    table = json.loads(config.read_bytes())
    names = [name for name in ("dtype", "torch_dtype") if isinstance(table.get(name), str)]
    if names:
        table |= dict.fromkeys(names, DTYPES[dtype].torch_name)
        write_bytes(config, (json.dumps(table, indent=2) + "\n").encode(), force=True)
