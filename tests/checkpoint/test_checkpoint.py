from __future__ import annotations

import gc
import hashlib
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deepalign_cli.checkpoint import Checkpoint, open_checkpoint, reading, tied_metadata, write_safetensors
from deepalign_cli.checkpoint.selection import Selection
from deepalign_cli.errors import CheckpointError
from tests.checkpoint.builders import entries, same, saved

BIG, SMALL = torch.randn(700, 700), torch.randn(3)


@pytest.fixture(params=["safetensors", "pt"])
def checkpoint(tmp_path: Path, request: pytest.FixtureRequest) -> Checkpoint:
    path = tmp_path / f"x.{request.param}"
    if request.param == "pt":
        path.write_bytes(saved({"big": BIG, "small": SMALL}))
    else:
        save_file({"big": BIG, "small": SMALL}, path)
    return open_checkpoint(path)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_is_a_mapping(checkpoint: Checkpoint) -> None:
    assert len(checkpoint) == 2
    assert set(checkpoint) == {"big", "small"}
    assert "big" in checkpoint
    assert "other" not in checkpoint
    assert checkpoint == checkpoint
    assert checkpoint != dict(checkpoint)
    assert hash(checkpoint)
    assert checkpoint.get("other") is None
    assert "2 tensors" in repr(checkpoint)
    with pytest.raises(KeyError):
        checkpoint["other"]


def test_writing_to_a_tensor_changes_nothing_else(checkpoint: Checkpoint) -> None:
    before = checkpoint.path.read_bytes()
    for name, wanted in (("big", BIG), ("small", SMALL)):
        first = checkpoint[name]
        first.zero_()
        assert same(checkpoint[name], wanted)
    assert checkpoint.path.read_bytes() == before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_nothing_is_kept(checkpoint: Checkpoint) -> None:
    gc.collect()
    files = open_files()
    value = checkpoint["big"]
    assert mapped(checkpoint.path)
    rows = value[3:5]
    del value
    assert rows.equal(BIG[3:5])
    del rows
    assert not mapped(checkpoint.path)
    assert open_files() == files


def test_without_mappings_it_reads(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(*args: object, **kwargs: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(reading.mmap, "mmap", no_more)
    assert same(checkpoint["big"], BIG)


def test_a_file_that_shrank(checkpoint: Checkpoint) -> None:
    with checkpoint.path.open("r+b") as file:
        file.truncate(5000)
    for act in (lambda: checkpoint["big"], lambda: checkpoint["small"], checkpoint.sha256):
        with pytest.raises(CheckpointError, match="has become shorter since it was opened") as caught:
            act()
        assert caught.value.hint


def test_a_file_that_changed(checkpoint: Checkpoint) -> None:
    status = checkpoint.path.stat()
    os.utime(checkpoint.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(CheckpointError, match="has changed since it was opened"):
        checkpoint["small"]


def test_a_file_that_went(checkpoint: Checkpoint) -> None:
    checkpoint.path.unlink()
    with pytest.raises(CheckpointError, match="does not exist any more"):
        checkpoint["small"]


def test_sha256(checkpoint: Checkpoint) -> None:
    wanted = hashlib.sha256(checkpoint.path.read_bytes()).hexdigest()
    assert checkpoint.sha256() == wanted
    checkpoint.path.unlink()
    assert checkpoint.sha256() == wanted


def test_sha256_of_shards(tmp_path: Path) -> None:
    for name in "ab":
        save_file({name: SMALL}, tmp_path / f"{name}.safetensors")
    (tmp_path / "x.safetensors.index.json").write_text(
        '{"weight_map":{"b":"b.safetensors","a":"a.safetensors"}}'
    )
    digests = [hashlib.sha256((tmp_path / f"{name}.safetensors").read_bytes()).digest() for name in "ab"]
    assert open_checkpoint(tmp_path).sha256() == hashlib.sha256(b"".join(digests)).hexdigest()


@pytest.mark.parametrize(("stored", "logical"), [("", ""), ("module.", ""), ("x._orig_mod.", "x.")])
def test_ties_survive_a_round_trip(tmp_path: Path, stored: str, logical: str) -> None:
    (tmp_path / "x.pt").write_bytes(saved({f"{stored}{name}": SMALL for name in "abc"}))
    first = open_checkpoint(tmp_path / "x.pt")
    out = tmp_path / "y.safetensors"
    write_safetensors(
        out, entries(first), lambda name: first[logical + name[len(stored) :]],
        tied_metadata(first.infos.values()),
    )  # fmt: skip
    second = open_checkpoint(out)
    ties = {name.removeprefix(logical): info.tied_to for name, info in second.infos.items()}
    assert ties == {"a": None, "b": f"{logical}a", "c": f"{logical}a"}
    assert second.prefix == (stored if not logical else "")
    assert tied_metadata(second.infos.values()) == tied_metadata(first.infos.values())


def test_without_ties_no_metadata(checkpoint: Checkpoint) -> None:
    assert tied_metadata(checkpoint.infos.values()) == {}


def test_a_copy_for_another_process_reads_the_same_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.arange(3.0)}, path, {"format": "pt"})
    checkpoint = open_checkpoint(path)
    sent = pickle.dumps([checkpoint, Selection(checkpoint, {"w": "v"})])
    copy, selection = pickle.loads(sent)
    assert copy["w"].equal(selection["v"])
    assert copy.metadata == checkpoint.metadata
    assert copy.infos == checkpoint.infos
    copy.check_unchanged()

    save_file({"w": torch.arange(4.0)}, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match="another file on another host"):
        pickle.loads(sent)
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read on another host"):
        pickle.loads(sent)
