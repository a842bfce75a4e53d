from __future__ import annotations

import hashlib
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from threading import Event

import pytest

from deepalign_cli.checkpoint import hashing
from deepalign_cli.checkpoint.files import Stamp
from deepalign_cli.checkpoint.hashing import begin_hashing, sha256_of_file, sha256_of_files
from deepalign_cli.errors import CheckpointError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, Stamp]:
    monkeypatch.setattr(hashing, "_WORTH", 0)
    for name in "ba":
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return {path: Stamp.of(path.stat()) for path in (tmp_path / "b", tmp_path / "a")}


def of(*contents: bytes) -> list[bytes]:
    return [hashlib.sha256(one).digest() for one in contents]


def test_what_was_begun_is_used_once_and_is_the_same(
    files: dict[Path, Stamp], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sha256_of_files(files)
    assert plain == hashlib.sha256(b"".join(of(b"a" * 1000, b"b" * 1000))).hexdigest()
    read: list[str] = []
    digest = hashing._digest
    monkeypatch.setattr(
        hashing, "_digest", lambda path, *rest: (read.append(path.name), digest(path, *rest))[1]
    )
    begin_hashing(files)
    assert sha256_of_files(files) == plain
    assert read == ["a", "b"]
    assert not hashing._BEGUN
    assert sha256_of_files(files) == plain
    assert len(read) == 4


def test_small_files_are_hashed_when_they_are_asked_for(
    files: dict[Path, Stamp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashing, "_WORTH", 2001)
    begin_hashing(files)
    assert not hashing._BEGUN


def test_a_file_that_has_changed_is_told_to_who_asks(files: dict[Path, Stamp]) -> None:
    changed = next(iter(files))
    changed.write_bytes(b"c" * 999)
    begin_hashing(files)
    with pytest.raises(CheckpointError, match="has become shorter since it was opened"):
        sha256_of_file(changed, files[changed])


def test_who_waits_can_be_stopped(files: dict[Path, Stamp], monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, stop = threading.Event(), Event()
    monkeypatch.setattr(hashing, "_digest", lambda *_: go_on.wait(10) and "x")
    begin_hashing(files)
    stop.set()
    path = next(iter(files))
    with pytest.raises(CancelledError):
        sha256_of_file(path, files[path], stop)
    go_on.set()
