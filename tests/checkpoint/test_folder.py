from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import CheckpointError
from tests.checkpoint.builders import saved

INDEX = "model.safetensors.index.json"
A, B = {"a": torch.full((2,), 1.0)}, {"b": torch.full((3,), 2.0)}


def index(folder: Path, table: object, name: str = INDEX) -> Path:
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 20}, "weight_map": table}))
    return folder


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    save_file(A, tmp_path / "1.safetensors", {"format": "pt"})
    save_file(B, tmp_path / "2.safetensors")
    return index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})


def test_shards(sharded: Path) -> None:
    for path in (sharded, sharded / INDEX):
        checkpoint = open_checkpoint(path)
        assert {name: value.tolist() for name, value in checkpoint.items()} == {"a": [1, 1], "b": [2, 2, 2]}
        assert [file.name for file in checkpoint.files] == ["1.safetensors", "2.safetensors"]
        assert checkpoint.metadata == {"format": "pt"}


def test_shards_of_pytorch(tmp_path: Path) -> None:
    (tmp_path / "1.bin").write_bytes(saved(A))
    (tmp_path / "2.bin").write_bytes(saved(B))
    index(tmp_path, {"a": "1.bin", "b": "2.bin"}, "pytorch_model.bin.index.json")
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint) == ["a", "b"]
    assert checkpoint.ordered


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "net.pt", "net.safetensors", "x.ckpt"]
)
def test_a_folder_with_one_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.json").write_text('{"hidden_size": 3, "eps": 1e-5}')
    (tmp_path / "optimizer.pt").write_bytes(b"?")
    (tmp_path / "training_args.bin").write_bytes(b"?")
    if name.endswith(".safetensors"):
        save_file(A, tmp_path / name)
    else:
        (tmp_path / name).write_bytes(saved(A))
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint) == ["a"]
    assert checkpoint.config == {"hidden_size": 3, "eps": 1e-5}
    assert checkpoint.path == tmp_path
    assert checkpoint.files == (tmp_path / name,)
    assert checkpoint.sha256() == open_checkpoint(tmp_path / name).sha256()


@pytest.mark.parametrize(
    "config", ["{", "[" * 100_000, "[1]", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "1" * 50]
)
def test_a_broken_config_is_noted(tmp_path: Path, config: str) -> None:
    save_file(A, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config == {}
    assert checkpoint.notes[0].startswith("did not read config.json")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is a folder without weights") as caught:
        open_checkpoint(tmp_path)
    assert caught.value.hint


def test_a_folder_with_two_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "1.pt").write_bytes(saved(A))
    (tmp_path / "2.pt").write_bytes(saved(A))
    with pytest.raises(CheckpointError, match=r"more than one checkpoint: 1\.pt, 2\.pt"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "shard",
    [
        "../../x",
        "../1.safetensors",
        "/etc/passwd",
        "sub/1.safetensors",
        "..",
        ".",
        "",
        "a\\b",
        "a\0b",
        "a\nb",
    ],
)
def test_an_index_that_points_elsewhere(sharded: Path, shard: str) -> None:
    index(sharded, {"a": shard, "b": "2.safetensors"})
    with pytest.raises(CheckpointError, match="is not a plain file name"):
        open_checkpoint(sharded)


def test_a_link_that_leads_out(tmp_path: Path) -> None:
    save_file(A, tmp_path / "elsewhere.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "1.safetensors").symlink_to("../elsewhere.safetensors")
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        open_checkpoint(folder)
    index(folder, {"a": "1.safetensors"})
    with pytest.raises(CheckpointError, match="leads out of its folder"):
        open_checkpoint(folder)


def test_the_cache_of_hugging_face(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    save_file(A, blobs / "abc")
    (snapshot / "1.safetensors").symlink_to("../../blobs/abc")
    index(snapshot, {"a": "1.safetensors"})
    assert open_checkpoint(snapshot)["a"].tolist() == [1, 1]


WRONG = {
    "missing shard": ({"a": "1.safetensors", "b": "3.safetensors"}, r"the shard '3\.safetensors' is missing"),
    "missing tensor": (
        {"a": "1.safetensors", "c": "2.safetensors"},
        r"'c' is not in its shard '2\.safetensors'",
    ),
    "another shard": ({"a": "2.safetensors", "b": "1.safetensors"}, "is in more than one shard"),
    "no files": ({"a": 1}, "gives no file for tensor 'a'"),
    "no tensors": ({}, "has no weight_map"),
    "no table": ([], "has no weight_map"),
    "empty name": ({"": "1.safetensors"}, "the name ''"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_indexes(sharded: Path, case: str) -> None:
    table, message = WRONG[case]
    index(sharded, table)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(sharded)
    assert caught.value.message.startswith(str(sharded))
    assert caught.value.hint


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    save_file({**A, **B}, sharded / "2.safetensors")
    with pytest.raises(CheckpointError, match="'a' is in more than one shard"):
        open_checkpoint(sharded)


def test_a_tensor_that_the_index_lacks(sharded: Path) -> None:
    save_file({**B, "c": torch.ones(1)}, sharded / "2.safetensors")
    checkpoint = open_checkpoint(sharded)
    assert list(checkpoint) == ["a", "b"]
    assert checkpoint.notes == ("tensors that the index does not list were left out: 1",)


def test_a_broken_shard_is_named(sharded: Path) -> None:
    (sharded / "2.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(CheckpointError, match=r"2\.safetensors: "):
        open_checkpoint(sharded)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"weight_map": NaN}'])
def test_broken_indexes(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json: "):
        open_checkpoint(sharded)
