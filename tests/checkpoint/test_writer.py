from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from deepalign_cli.checkpoint import Entry, check_output, open_checkpoint, write_safetensors
from deepalign_cli.errors import CheckpointError, OutputError, UsageError
from tests.checkpoint.builders import DTYPES, same, some

ONE = [Entry("w", "F32", (3,))]


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ones(name: str) -> Tensor:
    return torch.ones(3)


@pytest.fixture(params=["without a name", "named"], autouse=True)
def temporary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of keeping the file out of sight until it is complete."""
    if request.param == "named":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_every_type_passes_through(tmp_path: Path) -> None:
    tensors = {
        f"{code}.{at}": some(dtype, *shape)
        for code, dtype in DTYPES.items()
        for at, shape in enumerate(SHAPES)
    }
    announced = [Entry(name, name.split(".")[0], tuple(value.shape)) for name, value in tensors.items()]
    path = tmp_path / "x.safetensors"
    write_safetensors(path, announced, tensors.__getitem__, {"format": "pt", "ä": "ö\udc80"})
    official = load_file(path)
    checkpoint = open_checkpoint(path)
    assert list(checkpoint) == list(tensors)
    for name, wanted in tensors.items():
        assert same(official[name], wanted)
        assert same(checkpoint[name], wanted)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "pt", "ä": "ö?"}


SHAPES = [(), (5,), (3, 4), (0, 4), (2, 1, 3)]


def test_the_bytes_are_always_the_same(tmp_path: Path) -> None:
    for name in "ab":
        write_safetensors(tmp_path / name, ONE, ones, {"z": "1", "a": "2"})
    data = (tmp_path / "a").read_bytes()
    assert data == (tmp_path / "b").read_bytes()
    assert int.from_bytes(data[:8], "little") % 8 == 0


def test_no_tensors_and_no_metadata(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "x.safetensors", [], ones, {})
    assert dict(open_checkpoint(tmp_path / "x.safetensors")) == {}
    assert load_file(tmp_path / "x.safetensors") == {}


def test_transposed_and_with_gradient(tmp_path: Path) -> None:
    value = torch.randn(4, 3, requires_grad=True).T
    write_safetensors(tmp_path / "x", [Entry("w", "F32", (3, 4))], lambda name: value, {})
    assert same(open_checkpoint(tmp_path / "x")["w"], value.detach())


def test_one_tensor_at_a_time_in_the_given_order(tmp_path: Path) -> None:
    asked = []
    write_safetensors(
        tmp_path / "x", [Entry(n, "F32", (3,)) for n in "cab"], lambda n: asked.append(n) or ones(n), {}
    )
    assert asked == ["c", "a", "b"]


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_safetensors(tmp_path / "x", ONE, ones, {})
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_the_metadata_may_be_finished_later(tmp_path: Path) -> None:
    asked = []

    def finish() -> Mapping[str, str]:
        assert asked == ["w"]
        return {"sha": "f" * 64}

    write_safetensors(
        tmp_path / "x", ONE, lambda n: asked.append(n) or ones(n), {"sha": "0" * 64}, finish=finish
    )
    checkpoint = open_checkpoint(tmp_path / "x")
    assert checkpoint.metadata == {"sha": "f" * 64}
    assert checkpoint["w"].tolist() == [1, 1, 1]


def fail(error: BaseException) -> Mapping[str, str]:
    raise error


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), CheckpointError("x")])
@pytest.mark.parametrize("old", [None, b"old"])
def test_nothing_is_left_behind(tmp_path: Path, error: BaseException, old: bytes | None) -> None:
    path = tmp_path / "x.safetensors"
    if old is not None:
        path.write_bytes(old)
    before = listed(tmp_path)
    with pytest.raises(type(error)):
        write_safetensors(path, ONE, lambda name: fail(error), {}, force=True)  # type: ignore[arg-type, return-value]
    with pytest.raises(type(error)):
        write_safetensors(path, ONE, ones, {}, force=True, finish=lambda: fail(error))
    with pytest.raises(ValueError, match="bytes instead of"):
        write_safetensors(path, ONE, ones, {}, force=True, finish=lambda: {"a": "longer than it was before"})
    assert listed(tmp_path) == before
    if old is not None:
        assert path.read_bytes() == old


@pytest.mark.parametrize("value", [torch.ones(4), torch.ones(3, dtype=torch.float64), torch.ones(3, 1)])
def test_a_tensor_that_is_not_as_announced(tmp_path: Path, value: Tensor) -> None:
    with pytest.raises(ValueError, match="'w' is F"):
        write_safetensors(tmp_path / "x", ONE, lambda name: value, {})
    assert listed(tmp_path) == []


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two tensors"):
        write_safetensors(tmp_path / "x", ONE * 2, ones, {})
    with pytest.raises(CheckpointError, match="printed"):
        write_safetensors(tmp_path / "x", [Entry("\n", "F32", (3,))], ones, {})
    assert listed(tmp_path) == []


def test_a_full_disk(small_disk: Path) -> None:
    asked = []
    big = [Entry("w", "F32", (1000, 1000))]
    with pytest.raises(
        OutputError, match=r"x\.safetensors needs 40000\d\d bytes, but only \d+ are free"
    ) as caught:
        write_safetensors(small_disk / "x.safetensors", big, lambda n: asked.append(n) or ones(n), {})
    assert caught.value.exit_code == 1
    assert caught.value.hint
    assert asked == []
    assert listed(small_disk) == []


def test_a_disk_that_fills_up_meanwhile(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    old = small_disk / "x.safetensors"
    old.write_bytes(b"old")
    with pytest.raises(OutputError, match="are free"):
        write_safetensors(
            old, [Entry("w", "F32", (1000, 1000))], lambda n: torch.ones(1000, 1000), {}, force=True
        )
    assert listed(small_disk) == ["x.safetensors"]
    assert old.read_bytes() == b"old"


def test_a_file_system_that_cannot_reserve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", lambda *args: fail(OSError(errno.EOPNOTSUPP, "no")))
    write_safetensors(tmp_path / "x", ONE, ones, {})
    assert open_checkpoint(tmp_path / "x")["w"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_other_failures_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(os, "fsync", lambda file: fail(OSError(code, os.strerror(code))))
    with pytest.raises(OutputError) as caught:
        write_safetensors(tmp_path / "x", ONE, ones, {})
    assert str(tmp_path / "x") in caught.value.message
    assert caught.value.hint
    assert listed(tmp_path) == []


def test_an_output_that_came_into_being_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def read(name: str) -> Tensor:
        path.write_bytes(b"another's")
        return ones(name)

    with pytest.raises(UsageError, match="exists"):
        write_safetensors(path, ONE, read, {})
    assert path.read_bytes() == b"another's"
    assert listed(tmp_path) == ["x"]
    write_safetensors(path, ONE, read, {}, force=True)
    assert open_checkpoint(path)["w"].tolist() == [1, 1, 1]


def test_a_file_system_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, nameless = os.open, getattr(os, "O_TMPFILE", 0)

    def refuse(path: str, flags: int, *args: int, **kwargs: int) -> int:
        if nameless and flags & nameless == nameless:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    write_safetensors(tmp_path / "x", ONE, ones, {})
    assert listed(tmp_path) == ["x"]


def test_a_replacement_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *args, **kwargs: fail(OSError(errno.EIO, "no")))
    with pytest.raises(OutputError):
        write_safetensors(tmp_path / "x", ONE, ones, {}, force=True)
    assert listed(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    monkeypatch.setattr(os, "link", lambda *args, **kwargs: fail(PermissionError(errno.EPERM, "no")))
    write_safetensors(tmp_path / "x", ONE, ones, {})
    write_safetensors(tmp_path / "x", ONE, ones, {}, force=True)
    assert listed(tmp_path) == ["x"]


def test_a_linked_output_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/x")
    write_safetensors(link, ONE, ones, {})
    assert link.is_symlink()
    assert listed(tmp_path / "there") == ["x"]
    with pytest.raises(UsageError, match="exists"):
        check_output(link, force=False, inputs=[])
    write_safetensors(link, ONE, ones, {}, force=True)
    assert link.is_symlink()


def test_a_long_name(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    for force in (False, True):
        write_safetensors(path, ONE, ones, {}, force=force)
    assert listed(tmp_path) == [path.name]
