from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deepalign_cli.checkpoint import open_checkpoint, tied_metadata
from deepalign_cli.errors import CheckpointError
from tests.checkpoint.builders import DTYPES, described, safetensors_bytes, same, some

ONE = described("F32", [2], 0, 8)


@pytest.mark.parametrize("code", DTYPES)
def test_reads_what_the_official_library_wrote(tmp_path: Path, code: str) -> None:
    tensors = {"b": some(DTYPES[code], 3, 5), "a": some(DTYPES[code], 7), "s": some(DTYPES[code])}
    tensors["none"] = some(DTYPES[code], 0, 4)
    save_file(tensors, tmp_path / "x.safetensors", {"made": "here"})
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    assert set(checkpoint) == set(tensors)
    assert checkpoint.metadata == {"made": "here"}
    assert not checkpoint.ordered
    for name, wanted in tensors.items():
        info = checkpoint.infos[name]
        assert (info.dtype, info.shape, info.nbytes) == (code, tuple(wanted.shape), wanted.nbytes)
        assert info.is_float == wanted.dtype.is_floating_point
        assert same(checkpoint[name], wanted)


def test_order_is_where_the_data_lies(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    header = {
        "z": described("U8", [1], 1, 2),
        "a": described("U8", [1], 0, 1),
        "e": described("U8", [0], 1, 1),
    }
    path.write_bytes(safetensors_bytes(header, b"\1\2"))
    assert list(open_checkpoint(path)) == ["a", "e", "z"]


def test_unaligned_data_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    big = torch.randn(600_000)
    header = {"odd": described("U8", [1], 0, 1), "big": described("F32", [600_000], 1, 2_400_001)}
    path.write_bytes(safetensors_bytes(header, b"\7" + big.numpy().tobytes()))
    checkpoint = open_checkpoint(path)
    assert same(checkpoint["big"], big)
    assert checkpoint["odd"].tolist() == [7]


BROKEN = {
    "empty": (b"", "is empty"),
    "short": (b"\1\0\0", "header's length"),
    "header length 2^63": (safetensors_bytes({"a": ONE}, b"\0" * 8, 2**63), "header's length is given as"),
    "header length of the file": (safetensors_bytes({"a": ONE}, b"\0" * 8, 10_000), "header's length"),
    "cut in the header": (safetensors_bytes({"a": ONE})[:30], "header's length"),
    "cut in the data": (safetensors_bytes({"a": ONE}, b"\0" * 7), "ends at byte"),
    "data to spare": (safetensors_bytes({"a": ONE}, b"\0" * 9), "tensors end at byte"),
    "not JSON": (safetensors_bytes(b"{nothing}"), "is not JSON"),
    "not UTF-8": (safetensors_bytes(b'{"\xff": 1}'), "is not UTF-8"),
    "not an object": (safetensors_bytes(b"[1, 2, 3]"), "is not a JSON object"),
    "deep": (safetensors_bytes(b'{"a":' + b"[" * 200_000), "nested too deeply"),
    "huge number": (
        safetensors_bytes(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'),
        "5000 digits",
    ),
    "NaN": (safetensors_bytes(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}'), "NaN"),
    "fraction": (safetensors_bytes({"a": described("F32", [2.0], 0, 8)}, b"\0" * 8), "whole number"),
    "names twice": (
        safetensors_bytes(b'{"a":%b,"a":%b}' % ((b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',) * 2)),
        "'a' twice",
    ),
    "a field missing": (safetensors_bytes({"a": {"dtype": "F32", "shape": [2]}}, b"\0" * 8), "'a'"),
    "a field too many": (safetensors_bytes({"a": {**ONE, "x": 1}}, b"\0" * 8), "'a'"),
    "unknown type": (safetensors_bytes({"a": described("F31", [2], 0, 8)}, b"\0" * 8), "'F31'"),
    "type of another type": (safetensors_bytes({"a": {**ONE, "dtype": ["F32"]}}, b"\0" * 8), "'a'"),
    "negative size": (safetensors_bytes({"a": described("F32", [-2], 0, 8)}, b"\0" * 8), "-2"),
    "bool as size": (safetensors_bytes({"a": described("F32", [True], 0, 4)}, b"\0" * 4), "True"),
    "too many elements": (
        safetensors_bytes({"a": described("F32", [2**40, 2**40], 0, 8)}, b"\0" * 8),
        "counted",
    ),
    "wraps around to nothing": (safetensors_bytes({"a": described("U8", [2**32, 2**32], 0, 0)}), "counted"),
    "too many dimensions": (safetensors_bytes({"a": described("F32", [1] * 33, 0, 4)}, b"\0" * 4), "33 dim"),
    "size and shape differ": (safetensors_bytes({"a": described("F32", [3], 0, 8)}, b"\0" * 8), "need 12"),
    "backwards": (safetensors_bytes({"a": described("F32", [0], 8, 4)}, b"\0" * 8), "backwards"),
    "negative offset": (safetensors_bytes({"a": described("F32", [2], -8, 0)}, b"\0" * 8), "backwards"),
    "offsets no numbers": (
        safetensors_bytes({"a": described("F32", [2], "0", 8)}, b"\0" * 8),
        "whole numbers",
    ),
    "beyond the end": (
        safetensors_bytes({"a": described("U8", [2**40], 0, 2**40)}, b"\0" * 8),
        "the file has",
    ),
    "overlap": (safetensors_bytes({"a": ONE, "b": described("F32", [2], 4, 12)}, b"\0" * 12), "overlaps"),
    "twice the same bytes": (safetensors_bytes({"a": ONE, "b": ONE}, b"\0" * 8), "overlaps"),
    "hole": (safetensors_bytes({"a": ONE, "b": described("F32", [1], 12, 16)}, b"\0" * 16), "hole of 4"),
    "hole at the start": (safetensors_bytes({"a": described("F32", [1], 4, 8)}, b"\0" * 8), "hole of 4"),
    "metadata no text": (safetensors_bytes({"__metadata__": {"n": 1}, "a": ONE}, b"\0" * 8), "metadata 'n'"),
    "metadata no object": (safetensors_bytes({"__metadata__": [], "a": ONE}, b"\0" * 8), "metadata"),
    "empty name": (safetensors_bytes({"": ONE}, b"\0" * 8), "the name ''"),
    "long name": (safetensors_bytes({"n" * 2000: ONE}, b"\0" * 8), "longer than"),
    "terminal codes": (safetensors_bytes({"a\x1b[2J": ONE}, b"\0" * 8), "printed"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused(tmp_path: Path, case: str) -> None:
    data, part = BROKEN[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert part in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < len(str(path)) + 200
    assert caught.value.hint
    assert caught.value.exit_code == 3


def test_a_header_above_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((200_000_000).to_bytes(8, "little") + b"{")
        file.truncate(300_000_000)  # sparse
    with pytest.raises(CheckpointError, match="more than 100000000"):
        open_checkpoint(path)


def test_ties_in_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    header = {
        "a": described("U8", [2], 0, 2),
        "b": described("U8", [2], 2, 4),
        "c": described("U8", [1], 4, 5),
    }
    path.write_bytes(
        safetensors_bytes({**header, "__metadata__": {"deepalign.tied": '{"b":"a"}'}}, b"\0" * 5)
    )
    assert {name: info.tied_to for name, info in open_checkpoint(path).infos.items()} == {
        "a": None,
        "b": "a",
        "c": None,
    }


@pytest.mark.parametrize(
    "ties", ["[]", "{", '{"b":"d"}', '{"b":1}', '{"a":"a"}', '{"c":"a"}', '{"b":"a","d":"b"}']
)
def test_wrong_ties_are_refused(tmp_path: Path, ties: str) -> None:
    path = tmp_path / "x.safetensors"
    header = {name: described("U8", [2], 2 * at, 2 * at + 2) for at, name in enumerate(("a", "b", "dd"))}
    header["c"] = described("U8", [1], 6, 7)
    path.write_bytes(safetensors_bytes({**header, "__metadata__": {"deepalign.tied": ties}}, b"\0" * 7))
    with pytest.raises(CheckpointError, match=r"deepalign\.tied"):
        open_checkpoint(path)


def test_metadata_that_is_null(tmp_path: Path) -> None:
    """MLX writes it so."""
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes({"__metadata__": None, "a": ONE}, b"\0" * 8))
    assert list(open_checkpoint(tmp_path / "x.safetensors")) == ["a"]


class Tied(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


def test_the_ties_of_save_model(tmp_path: Path) -> None:
    """safetensors leaves tied tensors out and says so in the metadata."""
    from safetensors.torch import save_model

    net = Tied()
    save_model(net, str(tmp_path / "x.safetensors"))
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    assert set(checkpoint) == {"embed.weight", "head.weight"}
    (tied,) = [info for info in checkpoint.infos.values() if info.tied_to]
    assert tied.is_implied
    for tensor in checkpoint.values():
        assert tensor.equal(net.head.weight)
    assert tied_metadata(checkpoint.infos.values()) == {}
