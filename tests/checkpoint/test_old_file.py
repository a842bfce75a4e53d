"""Files of torch.save from before PyTorch 1.6, made by torch itself, whole and broken."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.old_file import MAGIC
from deepalign_cli.errors import CheckpointError, UnsafeCheckpointError
from tests.checkpoint.builders import Calls, same, saved


def old(value: object, protocol: int = 2) -> bytes:
    """What torch.save wrote before 1.6."""
    return saved(value, zipped=False, protocol=protocol)


@pytest.mark.parametrize("protocol", [2, 4])
def test_reads_what_torch_saved(tmp_path: Path, protocol: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2, bias=False))
    whole = {
        "state_dict": net.state_dict(),
        "epoch": 3,
        "optimizer": torch.optim.SGD(net.parameters()).state_dict(),
    }
    (tmp_path / "x.pth").write_bytes(old(whole, protocol))
    checkpoint = open_checkpoint(tmp_path / "x.pth")
    assert checkpoint.ordered
    assert list(checkpoint) == list(net.state_dict())
    assert checkpoint.notes == ("took 'state_dict' and left 'epoch', 'optimizer'",)
    for name, wanted in net.state_dict().items():
        assert same(checkpoint[name], wanted)


def test_views_and_ties(tmp_path: Path) -> None:
    base = torch.randn(600, 700)  # long enough to be mapped
    tensors = {"t": base.T, "base": base, "again": base, "columns": base[:, 10:20], "small": torch.ones(3)}
    (tmp_path / "x.pt").write_bytes(old(tensors))
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    for name, wanted in tensors.items():
        assert same(checkpoint[name], wanted.contiguous()), name
    assert {n: i.tied_to for n, i in checkpoint.infos.items() if i.tied_to} == {"again": "base"}


def test_a_storage_that_is_a_part_of_another(tmp_path: Path) -> None:
    """PyTorch before 0.4 wrote such; the fields are in the id of a storage."""
    data = old({"w": torch.arange(6.0)})
    begin = data.index(b"K\x06Nt")  # number of elements, no view
    part = b"K\x06(X\x01\x00\x00\x00vK\x02K\x03tt"  # three elements from the third
    data = data[:begin] + part + data[begin + 4 :]
    data = data.replace(b"K\x00K\x06\x85", b"K\x00K\x03\x85")  # the tensor's shape
    (tmp_path / "x.pt").write_bytes(data)
    assert open_checkpoint(tmp_path / "x.pt")["w"].tolist() == [2, 3, 4]
    (tmp_path / "x.pt").write_bytes(data.replace(b"K\x02K\x03tt", b"K\x04K\x03tt"))
    with pytest.raises(CheckpointError, match="part of a storage"):
        open_checkpoint(tmp_path / "x.pt")


def test_nothing_in_it_is_run(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    (tmp_path / "x.pt").write_bytes(old({"w": torch.ones(2), "a": Calls(os.system, f"touch '{sentinel}'")}))
    with pytest.raises(UnsafeCheckpointError, match="system"):
        open_checkpoint(tmp_path / "x.pt")
    assert not sentinel.exists()


GOOD = old({"w": torch.arange(6.0), "b": torch.zeros(3, dtype=torch.int64)})
_SIZES = len(GOOD) - (8 + 24) - (8 + 24)  # where the storages begin


def _head(*values: object) -> bytes:
    return b"".join(pickle.dumps(value, 2) for value in values)


WRONG: dict[str, tuple[bytes, str]] = {
    "wrong magic": (GOOD.replace(b"\x8a\nl\xfc", b"\x8a\nm\xfc"), "bare pickle"),
    "wrong version": (_head(MAGIC, 1002, {}), "bare pickle"),
    "only the magic": (_head(MAGIC), "bare pickle"),
    "no object": (_head(MAGIC, 1001, {}), "cut short"),
    "big-endian": (_head(MAGIC, 1001, {"little_endian": False}), "little-endian"),
    "no keys": (_head(MAGIC, 1001, {}, {}, 3), "no list of storages"),
    "unknown key": (_head(MAGIC, 1001, {}, {}, ["1"]), "list of storages"),
    "an id where none belongs": (_head(MAGIC, 1001) + b"\x80\x02K\x01Q.", "no tensor belongs"),
    "cut in the count": (GOOD[: _SIZES + 4], "ends inside storage"),
    "cut in a storage": (GOOD[:-1], "ends inside storage"),
    "another count": (GOOD[:_SIZES] + b"\x07" + GOOD[_SIZES + 1 :], "7 elements"),
    "a huge count": (GOOD[:_SIZES] + b"\xff" * 8 + GOOD[_SIZES + 8 :], "elements"),
    "a huge declared size": (GOOD.replace(b"K\x06N", b"\x8a\x08" + b"\x7f" * 8 + b"N"), "elements"),
    "huge bytes": (_head(MAGIC, 1001) + b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"), "cut short"),
}


@pytest.mark.parametrize("case", WRONG)
def test_broken_files_are_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "x.pt").write_bytes(WRONG[case][0])
    with pytest.raises(CheckpointError, match=WRONG[case][1]) as caught:
        open_checkpoint(tmp_path / "x.pt")
    assert caught.value.hint
    assert caught.value.exit_code == 3


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for cut in range(1, len(GOOD)):
        (tmp_path / "x.pt").write_bytes(GOOD[:cut])
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / "x.pt")


@pytest.mark.slow
@pytest.mark.parametrize("grow", [lambda f: f.truncate(2**36), lambda f: None])
def test_memory_is_bounded(tmp_path: Path, grow: Callable[[object], None]) -> None:
    """A declared size of 2^62 bytes, also in a (sparse) file of 64 GiB."""
    path = tmp_path / "x.pt"
    path.write_bytes(_head(MAGIC, 1001) + b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"))
    with path.open("r+b") as file:
        grow(file)
    code = (
        "import sys; from deepalign_cli.checkpoint import open_checkpoint\n"
        "from deepalign_cli.errors import CheckpointError\n"
        "try: open_checkpoint(sys.argv[1])\n"
        "except CheckpointError: print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert int(run.stdout) < 200_000  # KiB
