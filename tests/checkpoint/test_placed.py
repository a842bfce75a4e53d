from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deepalign_cli.checkpoint import Entry, early_sync, open_checkpoint
from deepalign_cli.checkpoint.placed import placed_file, rewrite_metadata
from deepalign_cli.errors import OutputError

ENTRIES = [Entry("a", "F32", (4, 5)), Entry("b", "BF16", (3,))]
A, B = torch.arange(20.0).view(4, 5), torch.ones(3, dtype=torch.bfloat16)


def test_parts_in_any_order(tmp_path: Path) -> None:
    with placed_file(tmp_path / "x", ENTRIES, {"k": "0"}) as file:
        file.write("b", B)
        file.write_part("a", 10, A[2:])
        file.write_part("a", 0, A[:2])
        file.set_metadata({"k": "1"})
    checkpoint = open_checkpoint(tmp_path / "x")
    assert checkpoint["a"].equal(A)
    assert checkpoint["b"].equal(B)
    assert checkpoint.metadata == {"k": "1"}


@pytest.mark.parametrize(("start", "part"), [(16, A[:1]), (0, A.double())])
def test_parts_that_do_not_fit(start: int, part: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not fit"), placed_file(tmp_path / "x", ENTRIES, {}) as file:
        file.write_part("a", start, part)
    assert not list(tmp_path.iterdir())


def test_what_is_written_goes_to_the_disk_meanwhile_and_its_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(early_sync, "_SYNC_EVERY", 40)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with placed_file(tmp_path / "x", ENTRIES, {}) as file:
        file.write("a", A)
        file.write("b", B)
        while not synced:
            pass
    assert open_checkpoint(tmp_path / "x")["a"].equal(A)

    def fail(file: int) -> None:
        synced.clear()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)

    def write() -> None:
        with placed_file(tmp_path / "y", ENTRIES, {}) as file:
            file.write("a", A)
            while synced:
                pass

    with pytest.raises(OutputError, match="cannot be written"):
        write()
    assert not (tmp_path / "y").exists()


def test_the_metadata_of_a_whole_file_are_written_again(tmp_path: Path) -> None:
    path, entries = tmp_path / "a.safetensors", [Entry("w", "F32", (3,))]
    with placed_file(path, entries, {"hash": "000"}) as file:
        file.write("w", torch.ones(3))
    rewrite_metadata(path, entries, {"hash": "abc"})
    checkpoint = open_checkpoint(path)
    assert checkpoint.metadata == {"hash": "abc"}
    assert checkpoint["w"].equal(torch.ones(3))
    with pytest.raises(ValueError, match="bytes instead of"):
        rewrite_metadata(path, entries, {"hash": "a much longer one"})
    with pytest.raises(OutputError, match="cannot be written"):
        rewrite_metadata(tmp_path / "b.safetensors", entries, {"hash": "abc"})
