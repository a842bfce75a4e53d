from __future__ import annotations

import argparse
import collections
import datetime
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.errors import CheckpointError
from tests.checkpoint.builders import (
    DTYPES,
    FOUR,
    global_,
    number,
    same,
    saved,
    some,
    state,
    storage,
    tensor,
    text,
    torch_zip,
)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_what_torch_saved(tmp_path: Path, protocol: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2, bias=False))
    torch.save(net.state_dict(), tmp_path / "x.pt", pickle_protocol=protocol)
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert list(checkpoint) == list(net.state_dict())
    assert checkpoint.ordered
    assert checkpoint.notes == ()
    for name, wanted in net.state_dict().items():
        assert same(checkpoint[name], wanted)
        assert not checkpoint[name].requires_grad


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
@pytest.mark.parametrize("code", DTYPES)
def test_every_type(tmp_path: Path, code: str, zipped: bool) -> None:
    tensors = {"m": some(DTYPES[code], 5, 3), "s": some(DTYPES[code]), "none": some(DTYPES[code], 0, 2)}
    (tmp_path / "x.bin").write_bytes(saved(tensors, zipped=zipped))
    checkpoint = open_checkpoint(tmp_path / "x.bin")
    for name, wanted in tensors.items():
        assert checkpoint.infos[name].dtype == code
        assert same(checkpoint[name], wanted)


def test_views_are_read_right(tmp_path: Path) -> None:
    base = torch.randn(600, 700)
    tensors = {
        "transposed": base.T,
        "columns": base[:, 10:20],
        "rows": base[5:9],
        "every third": base[::3, ::2],
        "one": base[3, 4],
        "expanded": torch.arange(5.0).expand(3, 5),
        "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        "parameter": nn.Parameter(torch.randn(4, 4).T),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "1 x n": base[:1],
    }
    (tmp_path / "x.pt").write_bytes(saved(tensors))
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    for name, wanted in tensors.items():
        assert same(checkpoint[name], wanted.detach()), name
        assert checkpoint[name].is_contiguous()


def test_tied_tensors_are_known(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(6, 4))
    empty = torch.empty(0)
    tensors = {
        "module.embed": weight,
        "module.half": weight[:3],
        "module.head": weight,
        "module.last": weight,
    }
    (tmp_path / "x.pt").write_bytes(saved({**tensors, "module.e": empty, "module.f": empty}))
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    ties = {name: info.tied_to for name, info in checkpoint.infos.items()}
    assert ties == {"embed": None, "half": None, "head": "embed", "last": "embed", "e": None, "f": None}
    assert checkpoint.prefix == "module."
    assert checkpoint.infos["head"].stored_name == "module.head"


def test_a_tensor_with_attributes(tmp_path: Path) -> None:
    weight = torch.randn(3)
    weight.marked = True  # type: ignore[attr-defined]
    parameter = nn.Parameter(torch.randn(3))
    parameter.marked = True  # type: ignore[attr-defined]
    (tmp_path / "x.pt").write_bytes(saved({"w": weight, "p": parameter}))
    checkpoint = open_checkpoint(tmp_path / "x.pt")
    assert same(checkpoint["w"], weight)
    assert same(checkpoint["p"], parameter.detach())


@pytest.mark.slow
def test_a_training_checkpoint(tmp_path: Path) -> None:
    net = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    whole = {
        "state_dict": {**net.state_dict(), "version": "1", "shape": torch.Size([1, 2])},
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"), when=datetime.datetime(2020, 1, 1)),
        "path": Path("runs/1"),
        "dtype": torch.float16,
        "rng": torch.get_rng_state(),
        "best": np.float64(0.5),
        "array": np.arange(3),
        "counts": collections.Counter("hello"),
        "table": collections.defaultdict(list, {"a": [1]}),
        "set": {1, 2},
        "frozen": frozenset({1}),
        "bytes": b"abc",
        "deque": collections.deque([1, 2]),
    }
    (tmp_path / "x.ckpt").write_bytes(saved(whole))
    checkpoint = open_checkpoint(tmp_path / "x.ckpt")
    assert list(checkpoint) == ["weight", "bias"]
    assert checkpoint.notes[0].startswith("took 'state_dict' and left 'optimizer', 'args'")
    assert checkpoint.notes[1] == "2 entries that are not tensors were left out"


def good(**changes: object) -> bytes:
    return state(w=tensor(storage(**changes)))  # type: ignore[arg-type]


WRONG_TENSORS = {
    "storage is missing": good(key="7"),
    "storage outside": good(key="../../x"),
    "storage too short": good(numel=5),
    "storage of 2^62 elements": good(numel=2**62),
    "storage of -1 elements": good(numel=-1),
    "another tag": good(tag="module"),
    "storage type is no storage": good(kind=global_("torch", "float32")),
    "persistent id is text": state(w=text("storage") + b"Q"),
    "untyped storage without a type": good(kind=global_("torch.storage", "UntypedStorage")),
    "storage is no storage": state(w=tensor(b"N")),
    "offset beyond": state(w=tensor(storage(), offset=1)),
    "offset of 2^62": state(w=tensor(storage(), offset=2**62)),
    "offset of -1": state(w=tensor(storage(), offset=-1, shape=(1,))),
    "negative size": state(w=tensor(storage(), shape=(-4,))),
    "size beyond": state(w=tensor(storage(), shape=(5,))),
    "size of 2^100": state(w=tensor(storage(), shape=(2**100,))),
    "product overflows": state(w=tensor(storage(), shape=(2**32, 2**32, 4), strides=(0, 0, 1))),
    "stride beyond": state(w=tensor(storage(), shape=(2,), strides=(4,))),
    "negative stride": state(w=tensor(storage(), offset=3, shape=(4,), strides=(-1,))),
    "expanded without end": state(w=tensor(storage(), shape=(2**28, 4), strides=(0, 1))),
    "strides of another length": state(w=tensor(storage(), shape=(4,), strides=(1, 1))),
    "33 dimensions": state(w=tensor(storage(), shape=(1,) * 33, strides=(1,) * 33)),
    "size is a list": state(w=tensor(storage()).replace(b"(K\4t(K\1t", b"](K\4e](K\1e")),
    "two arguments": state(w=global_("torch._utils", "_rebuild_tensor_v2") + b"NN\x86R"),
    "no arguments": state(w=global_("torch._utils", "_rebuild_tensor_v3") + b")R"),
    "a parameter of nothing": state(w=global_("torch._utils", "_rebuild_parameter") + b")R"),
    "from a type, no function": state(w=global_("torch._tensor", "_rebuild_from_type_v2") + b"(NNNNtR"),
    "named by a number": b"\x80\x02}" + number(1) + tensor(storage()) + b"s.",
    "named by a tuple": b"\x80\x02}N\x85" + tensor(storage()) + b"s.",
    "no name": state(**{"": tensor(storage())}),
    "terminal codes": state(**{"\x1b[2J": tensor(storage())}),
    "metadata's name": state(__metadata__=tensor(storage())),
}


@pytest.mark.parametrize("case", WRONG_TENSORS)
def test_wrong_tensors_are_refused(tmp_path: Path, case: str) -> None:
    path = torch_zip(tmp_path / "x.pt", WRONG_TENSORS[case], FOUR)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.hint
    assert len(caught.value.message) < len(str(path)) + 200


def test_the_model_of_those_is_right(tmp_path: Path) -> None:
    assert open_checkpoint(torch_zip(tmp_path / "x.pt", good(), FOUR))["w"].tolist() == [0, 1, 2, 3]


@pytest.mark.filterwarnings("ignore")
def test_odd_kinds_of_tensors_are_named(tmp_path: Path) -> None:
    odd = {
        "sparse": torch.eye(3).to_sparse(),
        "complex128": torch.zeros(2, dtype=torch.complex128),
        "negated": torch.zeros(2, dtype=torch.complex64).conj().imag,
        "quantised": torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8),
        "meta": torch.empty(3, device="meta"),
    }
    for kind, value in odd.items():
        (tmp_path / "x.pt").write_bytes(saved({"fine": torch.zeros(2), "weight": value}))
        with pytest.raises(CheckpointError, match=rf"'weight' is .*{kind}"):
            open_checkpoint(tmp_path / "x.pt")


def _nested(depth: int) -> object:
    return {"model": _nested(depth - 1)} if depth else {"w": torch.zeros(1)}


WRONG_CONTENT = {
    "a tensor": torch.zeros(2),
    "a list": [torch.zeros(2)],
    "nothing": {},
    "no tensors": {"epoch": 3, "model": {"x": 1}},
    "nested too deep": {"model": _nested(9)},
}


@pytest.mark.parametrize("case", WRONG_CONTENT)
def test_without_a_state_dict(tmp_path: Path, case: str) -> None:
    (tmp_path / "x.pt").write_bytes(saved(WRONG_CONTENT[case]))
    with pytest.raises(CheckpointError, match="holds no state dict"):
        open_checkpoint(tmp_path / "x.pt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("traced", [False, True])
def test_torchscript_is_named(tmp_path: Path, traced: bool) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    program = torch.jit.trace(net, torch.zeros(1, 3)) if traced else torch.jit.script(net)
    torch.jit.save(program, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        packed = [info.filename for info in archive.infolist() if info.compress_type]
    assert any("/code/" in name for name in packed)
    with pytest.raises(CheckpointError, match="TorchScript") as caught:
        open_checkpoint(tmp_path / "x.pt")
    assert "torch.save(torch.jit.load('model.pt').state_dict(), 'weights.pt')" in caught.value.hint


def test_a_compressed_member_that_is_not_read_does_no_harm(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "x.pt", good(), FOUR)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/notes.txt", b"x" * 1000)
    assert open_checkpoint(path)["w"].tolist() == [0, 1, 2, 3]


def test_big_endian_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="little-endian"):
        open_checkpoint(torch_zip(tmp_path / "x.pt", good(), FOUR, byteorder=b"big"))


@pytest.mark.slow
def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "x.pt", b"\x80\x02" + b"N" * 50_000_000, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="of the zip file is compressed"):
        open_checkpoint(path)


def test_a_compressed_storage_is_refused(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "x.pt", good())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", b"\0" * 10_000)
    with pytest.raises(CheckpointError, match="compressed"):
        open_checkpoint(path)


def test_a_pickle_above_the_limit_is_refused(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "x.pt", b"N" * (64 * 2**20 + 1))
    with pytest.raises(CheckpointError, match="more than 67108864"):
        open_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_the_same_name_are_refused(tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "x.pt", good(), FOUR, extra={"data/0": b"\0" * 16})
    with pytest.raises(CheckpointError, match="twice"):
        open_checkpoint(path)


def test_another_zip_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match=r"not one that torch\.save wrote"):
        open_checkpoint(tmp_path / "x.pt")


def patched(data: bytes, magic: bytes, at: int, form: str, value: int) -> bytes:
    """With the last record that starts with `magic` changed."""
    data = bytearray(data)
    struct.pack_into(form, data, bytes(data).rfind(magic) + at, value)
    return bytes(data)


CENTRAL, LOCAL, END = b"PK\1\2", b"PK\3\4", b"PK\5\6"
WRONG_ZIPS = {
    "encrypted": (CENTRAL, 8, "<H", 1),
    "another method": (CENTRAL, 10, "<H", 99),
    "sizes differ": (CENTRAL, 24, "<I", 17),
    "header elsewhere": (CENTRAL, 42, "<I", 3),
    "header beyond": (CENTRAL, 42, "<I", 2**31),
    "wide without a record": (CENTRAL, 42, "<I", 2**32 - 1),
    "name too long": (CENTRAL, 28, "<H", 60_000),
    "no central magic": (CENTRAL, 0, "<I", 0),
    "local compressed": (LOCAL, 8, "<H", 8),
    "local extra too long": (LOCAL, 28, "<H", 60_000),
    "local name": (LOCAL, 26, "<H", 3),
    "more members": (END, 10, "<H", 77),
    "several disks": (END, 4, "<H", 2),
    "index beyond": (END, 16, "<I", 2**31),
    "index is long": (END, 12, "<I", 2**31),
    "index is short": (END, 12, "<I", 60),
    "zip64 without a locator": (END, 16, "<I", 2**32 - 1),
}


@pytest.mark.parametrize("case", WRONG_ZIPS)
def test_wrong_zip_files_are_refused(tmp_path: Path, case: str) -> None:
    path = torch_zip(tmp_path / "x.pt", good())
    with zipfile.ZipFile(path, "a") as archive:  # the storage last, so that its records are the ones changed
        archive.writestr("archive/data/0", FOUR["0"])
    path.write_bytes(patched(path.read_bytes(), *WRONG_ZIPS[case]))
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.message.startswith(f"{path}: ")


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    whole = saved({"w": torch.zeros(10)})
    for size in (4, 30, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        (tmp_path / "x.pt").write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            open_checkpoint(tmp_path / "x.pt")


def zip64(members: Mapping[str, bytes], wide: int) -> bytes:
    """As for a file of more than 4 GB: the numbers are small, but stand where the wide ones do."""
    data, index = b"", b""
    for name, content in members.items():
        fields = (len(content), len(content), len(data))
        extra = struct.pack("<2H2H", 7, 4, 0, 0) + struct.pack(f"<2H{wide}Q", 1, 8 * wide, *fields[:wide])
        raw = name.encode()
        narrow = [0xFFFFFFFF] * 3
        index += struct.pack(
            "<4s6H3L5H2L",
            CENTRAL,
            45,
            45,
            0,
            0,
            0,
            0,
            0,
            *narrow[:2],
            len(raw),
            len(extra),
            0,
            0,
            0,
            0,
            narrow[2],
        )
        index += raw + extra
        data += struct.pack("<4s5H3L2H", LOCAL, 45, 0, 0, 0, 0, 0, *narrow[:2], len(raw), 0) + raw + content
    start, end = len(data), len(data) + len(index)
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, len(members), len(members), len(index), start
    )
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    return data + index + end64 + locator + struct.pack("<4s4H2LH", END, 0, 0, 0xFFFF, 0xFFFF, *narrow[:2], 0)


def test_zip64_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    members = {"a/data.pkl": good(), "a/data/0": FOUR["0"]}
    path.write_bytes(zip64(members, 3))
    assert open_checkpoint(path)["w"].tolist() == [0, 1, 2, 3]
    path.write_bytes(zip64(members, 2))
    with pytest.raises(CheckpointError, match="zip index is broken"):
        open_checkpoint(path)
    for at in (-22 - 20, -22 - 20 - 56, -22 - 20 + 8):
        data = bytearray(zip64(members, 3))
        data[at] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match="zip file is broken"):
            open_checkpoint(path)


def test_many_dimensions(tmp_path: Path) -> None:
    value = torch.randn((2,) * 20).permute(*range(19, -1, -1))
    (tmp_path / "x.pt").write_bytes(saved({"w": value}))
    assert same(open_checkpoint(tmp_path / "x.pt")["w"], value)
