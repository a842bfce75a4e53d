"""Folders: which file holds the weights, and shards that an index ties together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deepalign_cli.checkpoint import foreign
from deepalign_cli.checkpoint.files import Stamp, open_regular, read_exactly
from deepalign_cli.checkpoint.info import Contents, TensorInfo
from deepalign_cli.checkpoint.names import check_name
from deepalign_cli.checkpoint.problems import Malformed, blame, shown
from deepalign_cli.checkpoint.strict_json import parse_json
from deepalign_cli.errors import CheckpointError, UsageError

MAX_INDEX = 100_000_000
MAX_CONFIG = 10_000_000
# The names that Hugging Face gives them, best first.
_USUAL = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# What trainers save beside the weights.
_NOT_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state")

ReadFile = Callable[[Path], tuple[Contents, Stamp]]


def find_weights(folder: Path) -> Path:
    """The index or the file that holds the folder's weights.

    Raises CheckpointError where there is none, or more than one and none has a usual name.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be opened: {error.strerror}", "check its permissions") from None
    return inside(folder, choose_weights(names, str(folder)))


def choose_weights(names: Sequence[str], folder: str) -> str:
    """Which of the names in a folder is the index or the file that holds its weights.

    Raises CheckpointError where there is none, or more than one and none has a usual name.
    """
    for usual in _USUAL:
        if usual in names:
            return usual
    if other := foreign.by_folder(names):
        raise CheckpointError(f"{folder} {other.what}", other.hint)
    candidates = _candidates(names)
    if not candidates:
        hint = f"give a folder with one of {', '.join(_SUFFIXES)}, or the file itself"
        raise CheckpointError(f"{folder} is a folder without weights", hint)
    if len(candidates) > 1:
        some = ", ".join(candidates[:4]) + (" ..." if len(candidates) > 4 else "")
        raise CheckpointError(f"{folder} holds more than one checkpoint: {some}", "give the file itself")
    return candidates[0]


def read_config(folder: Path) -> tuple[Mapping[str, object], tuple[str, ...]]:
    """What `config.json` says, if there is one that can be read; otherwise nothing, and a note."""
    path = folder / "config.json"
    if not path.is_file():
        return {}, ()
    try:
        with blame(path):
            config = _load_json(path, MAX_CONFIG, "the file")
    except (CheckpointError, UsageError) as error:
        return {}, (f"did not read config.json: {error.message}",)
    if not isinstance(config, dict):
        return {}, (f"did not read config.json: {path} is not a JSON object",)
    return config, ()


def read_shards(index: Path, read_file: ReadFile) -> tuple[Contents, Mapping[Path, Stamp]]:
    """All that the shards of an index hold, as one.

    Raises CheckpointError where a shard is missing or lies elsewhere, or a tensor is missing or there twice.
    """
    with blame(index):
        table = _weight_map(index)
        shards = {name: inside(index.parent, name) for name in dict.fromkeys(table.values())}
        for name, path in shards.items():
            if not path.is_file():
                raise Malformed(f"the shard {shown(name)} is missing", "download or copy all of its shards")
        read = {name: read_file(path) for name, path in shards.items()}
        contents = _joined(table, {name: part for name, (part, _) in read.items()})
        return contents, {shards[name]: stamp for name, (_, stamp) in read.items()}


def shard_names(index: Path) -> tuple[str, ...]:
    """The files that an index names, whether or not they are there.

    Raises CheckpointError where it is not an index, or names anything but files beside it.
    """
    with blame(index):
        return tuple(dict.fromkeys(_weight_map(index).values()))


def _joined(table: Mapping[str, str], contents: Mapping[str, Contents]) -> Contents:
    infos: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    unlisted = 0
    for shard, part in contents.items():
        for info in part.tensors:
            home = table.get(info.stored_name)
            if home is None:
                unlisted += 1
            elif home != shard or infos.setdefault(info.stored_name, info) is not info:
                raise Malformed(f"tensor {shown(info.stored_name)} is in more than one shard")
        metadata = {**part.metadata, **metadata}
    for name, shard in table.items():
        if name not in infos:
            raise Malformed(f"tensor {shown(name)} is not in its shard {shown(shard)}")
    notes = [note for part in contents.values() for note in part.notes]
    if unlisted:
        notes.append(f"tensors that the index does not list were left out: {unlisted}")
    ordered = all(part.ordered for part in contents.values())
    # A tie to a tensor that was left out is undone.
    tensors = [i if i.tied_to in (None, *infos) else replace(i, tied_to=None) for i in infos.values()]
    return Contents(tuple(tensors), metadata, ordered, tuple(dict.fromkeys(notes)))


def _weight_map(path: Path) -> Mapping[str, str]:
    """Each tensor's shard, by an index; every shard is a plain file name."""
    index = _load_json(path, MAX_INDEX, "the index")
    table = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not table:
        raise Malformed("the index has no weight_map")
    for name, shard in table.items():
        check_name(name)
        if not isinstance(shard, str):
            raise Malformed(f"the index gives no file for tensor {shown(name)}")
        if shard in ("", ".", "..") or any(sign in shard for sign in "/\\\0") or not shard.isprintable():
            hint = "an index may only name files in its own folder; do not trust this one"
            raise Malformed(f"the index names {shown(shard)}, which is not a plain file name", hint)
    return table


def inside(folder: Path, name: str) -> Path:
    """The path of a file in the folder; a link may not lead out of it, but for Hugging Face's own cache."""
    path = folder / name
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(folder))
    if not any(real.is_relative_to(place) for place in (home, *_blobs(home))):
        hint = "give the file itself if this is intended"
        raise CheckpointError(f"{path} is a link that leads out of its folder", hint)
    return path


def _blobs(folder: Path) -> Iterator[Path]:
    """Where a snapshot in Hugging Face's cache keeps its files: with its repository, or shared by all."""
    for place in (folder, *folder.parents):
        if place.parent.name == "snapshots":
            repository = place.parent.parent
            yield repository / "blobs"
            if repository.name.startswith("models--"):
                yield repository.parent / "blobs"


def _candidates(names: Sequence[str]) -> list[str]:
    indexes = [name for name in names if name.endswith((".safetensors.index.json", ".bin.index.json"))]
    if indexes:
        return indexes
    files = [name for name in names if name.endswith(_SUFFIXES) and not name.startswith((".", *_NOT_WEIGHTS))]
    safe = [name for name in files if name.endswith(".safetensors")]
    return safe or files


def _load_json(path: Path, limit: int, what: str) -> object:
    with open_regular(path) as (file, stamp):
        if stamp.size > limit:
            raise Malformed(f"{what} is {stamp.size} bytes long, more than {limit}")
        return parse_json(read_exactly(file, 0, stamp.size, what), what, floats=True)
