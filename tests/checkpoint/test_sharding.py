from __future__ import annotations

import json

import pytest

from deepalign_cli.checkpoint import Entry
from deepalign_cli.checkpoint.sharding import encode_index, is_shard, parse_size, split
from deepalign_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        ("500mb", 5 * 10**8),
        ("1.5 GiB", 3 * 2**29),
        ("12", 12),
        ("2KB", 2000),
        ("1TiB", 2**40),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "5 G", "-1GB", "0", "1e9", "0.0001KB", "five"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)


def test_every_tensor_is_in_one_file_in_order_and_files_are_full() -> None:
    entries = [Entry(f"t{i}", "U8", (size,)) for i, size in enumerate((4, 4, 3, 20, 0, 8, 1))]
    shards = split(entries, 10)
    assert [[entry.name for entry in shard.entries] for shard in shards] == [
        ["t0", "t1"], ["t2"], ["t3"], ["t4", "t5", "t6"],
    ]  # fmt: skip
    assert all(is_shard(shard.name) for shard in shards)
    index = json.loads(encode_index(shards))
    assert index["metadata"]["total_size"] == 40
    assert index["weight_map"]["t5"] == "model-00004-of-00004.safetensors"
    assert [shard.name for shard in split(entries, 40)] == ["model.safetensors"]
    assert [shard.name for shard in split([], 1)] == ["model.safetensors"]
    assert not is_shard("model.safetensors")
