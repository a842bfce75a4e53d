from __future__ import annotations

import errno
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from deepalign_cli.checkpoint import Entry, direct, open_checkpoint
from deepalign_cli.checkpoint.direct import DirectWriter
from deepalign_cli.checkpoint.placed import placed_file
from deepalign_cli.errors import OutputError

SIZE = 5 * 4096 + 123


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_BLOCK", 2 * 4096)
    monkeypatch.setattr(direct, "LEAST", 0)


def data() -> Tensor:
    return torch.randint(256, (SIZE,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@contextmanager
def opened(path: Path, start: int = 100) -> Iterator[DirectWriter]:
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        with DirectWriter(file, start, SIZE) as writer:
            yield writer
    finally:
        os.close(file)


@pytest.mark.parametrize("part", [1000, 4096, SIZE])
@pytest.mark.parametrize("backwards", [False, True])
def test_what_was_written_is_there(tmp_path: Path, part: int, backwards: bool) -> None:
    places = range(100, SIZE, part)
    with opened(tmp_path / "x") as writer:
        for at in reversed(places) if backwards else places:
            writer.write(data()[at : at + part], at)
    assert (tmp_path / "x").read_bytes()[100:] == bytes(data()[100:].tolist())


def test_blocks_go_past_the_page_cache_and_their_memory_is_used_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, plain = [], direct._memory
    monkeypatch.setattr(direct, "_memory", lambda: taken.append(plain()) or taken[-1])
    monkeypatch.setattr(direct, "pwrite_all", lambda file, view, at: cached.append((at, len(view))))
    cached: list[tuple[int, int]] = []
    with opened(tmp_path / "x") as writer:
        if writer._direct is None:
            pytest.skip("this file system has no direct writes")
        writer.write(data()[100:], 100)
    written = [part for part in cached if part[1]]
    assert written == [(100, 3996), (5 * 4096, 123)]  # the ends that are no whole blocks
    assert len(taken) == 1


def test_no_more_blocks_are_gathered_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_MOST_OPEN", 1)
    with opened(tmp_path / "x") as writer:
        for start in (0, 50):  # the first half of each part leaves its block open
            for at in range(100 + start, SIZE, 100):
                writer.write(data()[at : min(at + 50, SIZE)], at)
                assert len(writer._open) <= 1
    assert (tmp_path / "x").read_bytes()[100:] == bytes(data()[100:].tolist())


def test_threads_write_parts_of_the_same_blocks(tmp_path: Path) -> None:
    parts = iter(range(100, SIZE, 7))
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                at = next(parts, None)
            if at is None:
                return
            writer.write(data()[at : at + 7], at)

    with opened(tmp_path / "x") as writer:
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (tmp_path / "x").read_bytes()[100:] == bytes(data()[100:].tolist())


@pytest.mark.parametrize("at_opening", [True, False])
def test_a_file_system_that_refuses_is_written_as_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_opening: bool
) -> None:
    plain_open, plain_write = os.open, os.pwrite
    refusing: list[int] = []

    def opens(path: str, flags: int, *rest: int, **more: int) -> int:
        is_direct = bool(flags & os.O_DIRECT)
        if is_direct and at_opening:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        file = plain_open(path, flags & ~os.O_DIRECT, *rest, **more)
        if is_direct:
            refusing.append(file)
        return file

    def writes(file: int, view: memoryview, at: int) -> int:
        if file in refusing:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return plain_write(file, view, at)

    monkeypatch.setattr(os, "open", opens)
    monkeypatch.setattr(os, "pwrite", writes)
    with opened(tmp_path / "x") as writer:
        writer.write(data()[100:], 100)
    assert bool(refusing) is not at_opening
    assert (tmp_path / "x").read_bytes()[100:] == bytes(data()[100:].tolist())


def test_a_writer_that_has_ended_keeps_no_descriptor(tmp_path: Path) -> None:
    with opened(tmp_path / "x") as writer:
        writer.write(data()[100:], 100)
    assert writer._direct is None


def test_blocks_and_the_page_cache_share_no_page() -> None:
    assert direct._ALIGNMENT % mmap.PAGESIZE == 0


def test_what_is_missing_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path / "x") as writer:
        writer.write(data()[100:], 100)
        is_direct = writer._direct is not None
    if not is_direct:
        pytest.skip("this file system has no direct writes")
    with pytest.raises(RuntimeError, match="not all written"), opened(tmp_path / "x") as writer:
        writer.write(data()[5000:6000], 5000)


def test_a_whole_file_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [Entry("a", "F32", (100, 100)), Entry("b", "F32", (7,))]
    a, b = torch.arange(10_000.0).view(100, 100), torch.ones(7)
    with placed_file(tmp_path / "x", entries, {"k": "0"}) as file:
        file.write("b", b)
        for row in range(100):
            file.write_part("a", 100 * row, a[row])
        file.set_metadata({"k": "1"})
    checkpoint = open_checkpoint(tmp_path / "x")
    assert checkpoint["a"].equal(a)
    assert checkpoint["b"].equal(b)
    assert checkpoint.metadata == {"k": "1"}

    def full(self: DirectWriter, view: memoryview, at: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(DirectWriter, "_write", full)
    with (
        pytest.raises(OutputError, match=r"needs .* bytes"),
        placed_file(tmp_path / "y", entries, {}) as file,
    ):
        file.write("a", a)
    assert not (tmp_path / "y").exists()
