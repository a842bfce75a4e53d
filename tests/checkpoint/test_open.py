from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import CheckpointError, UnsafeCheckpointError, UsageError
from tests.checkpoint.builders import described, safetensors_bytes, saved


def test_a_header_is_read_without_torch(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(saved({"w": torch.ones(2)}))
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes({"w": described("U8", [1], 0, 1)}, b"\0"))
    code = (
        "import sys; from deepalign_cli.checkpoint import open_checkpoint\n"
        "for path in sys.argv[1:]: print(list(open_checkpoint(path)), open_checkpoint(path).sha256()[:0])\n"
        "assert not {'torch', 'numpy', 'safetensors'} & sys.modules.keys()"
    )
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        str(tmp_path / "x.pt"),
        str(tmp_path / "x.safetensors"),
    ]
    subprocess.run(command, check=True)


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(saved({"w": torch.ones(2)}))
    (tmp_path / "x.pt").write_bytes(safetensors_bytes({"w": described("U8", [1], 0, 1)}, b"\5"))
    assert open_checkpoint(tmp_path / "x.safetensors")["w"].tolist() == [1, 1]
    assert open_checkpoint(str(tmp_path / "x.pt"))["w"].tolist() == [5]


def test_a_length_that_looks_like_a_pickle(tmp_path: Path) -> None:
    """A header of 0x280 bytes begins as a pickle of protocol 2 does."""
    text = b'{"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(0x280)
    (tmp_path / "x").write_bytes(safetensors_bytes(text, b"\5"))
    assert open_checkpoint(tmp_path / "x")["w"].tolist() == [5]


OTHERS = {
    b"": "is empty",
    b"version https://git-lfs.github.com/spec/v1\n": "Git LFS",
    b"GGUF\3\0\0\0": "GGUF",
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"\x93NUMPY\1\0": "NumPy",
    b"<!DOCTYPE html>": "web page",
    b"hello world, this is a text": "neither",
    b"c": "neither",
    b"\x80": "neither",
    b"\0" * 100: "neither",
}


@pytest.mark.parametrize("data", OTHERS)
def test_other_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=OTHERS[data]) as caught:
        open_checkpoint(path)
    assert caught.value.hint
    assert not isinstance(caught.value, UnsafeCheckpointError)


def test_a_tar_file_of_torch(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    with pytest.raises(CheckpointError, match="tar file"):
        open_checkpoint(tmp_path / "x.tar")


@pytest.mark.parametrize("path", ["nothing.pt", "x.pt/inside", "a\0b", "n" * 300])
def test_nothing_there(tmp_path: Path, path: str) -> None:
    (tmp_path / "x.pt").write_bytes(b"x")
    with pytest.raises(UsageError) as caught:
        open_checkpoint(f"{tmp_path}/{path}")
    assert caught.value.hint
    assert caught.value.exit_code == 2


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_checkpoint(tmp_path / "pipe")
