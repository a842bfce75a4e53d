"""Files with bytes changed: each is read to the end, or refused with a CheckpointError, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.info import DTYPES
from deepalign_cli.errors import CheckpointError
from tests.checkpoint.builders import described, safetensors_bytes, saved, state, storage, tensor, torch_zip

pytestmark = pytest.mark.slow

many = settings(
    max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)

SAFE = safetensors_bytes(
    {
        "__metadata__": {"format": "pt", "deepalign.tied": '{"b":"a"}'},
        "a": described("F32", [2, 3], 0, 24),
        "b": described("F32", [2, 3], 24, 48),
        "c": described("BF16", [], 48, 50),
        "d": described("I64", [1, 0], 50, 50),
    },
    bytes(range(50)),
)
SAFE_HEADER = SAFE[8 : 8 + int.from_bytes(SAFE[:8], "little")]
_weight = torch.nn.Parameter(torch.randn(4, 3))
TORCH = saved(
    {"state_dict": {"a": _weight, "b": _weight.detach().T, "n": 3, "c": torch.zeros(2, dtype=torch.uint16)}}
)
OLD = saved({"state_dict": {"a": _weight, "b": _weight.detach().T, "n": 3}}, zipped=False)
PICKLE = state(
    a=tensor(storage(numel=12), shape=(2, 3), strides=(3, 1)), b=tensor(storage(numel=12), 4), n=b"K\1"
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "x.safetensors"


@st.composite
def mutations(draw: DrawFn, original: bytes) -> bytes:
    """The bytes with a few places changed, cut out, doubled, or cut off."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["byte", "insert", "delete", "copy", "cut", "number"])):
            case "byte":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=9))
            case "delete":
                del data[at : at + draw(st.integers(1, 20))]
            case "copy":
                data[at:at] = data[at : at + draw(st.integers(1, 60))]
            case "cut":
                del data[at:]
            case _:
                data[at : at + 8] = draw(st.sampled_from(EDGES)).to_bytes(8, "little")
    return bytes(data)


EDGES = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def survives(path: Path) -> None:
    """Whatever is there is read, or refused in one sentence."""
    try:
        checkpoint = open_checkpoint(path)
        for name, info in checkpoint.infos.items():
            value = checkpoint[name]
            assert tuple(value.shape) == info.shape
            value.clone()
    except CheckpointError as error:
        refusal = error
    else:
        return
    assert "\n" not in refusal.message
    assert len(refusal.message) < len(str(path)) + 300
    assert refusal.hint


@many
@given(data=mutations(SAFE))
def test_safetensors_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    survives(path)


@many
@given(header=mutations(SAFE_HEADER))
def test_safetensors_header_with_its_length(path: Path, header: bytes) -> None:
    path.write_bytes(safetensors_bytes(header, bytes(50)))
    survives(path)


sizes = st.one_of(st.integers(-2, 9), st.sampled_from(EDGES), st.booleans(), st.none(), st.text(max_size=2))
described_tensors = st.fixed_dictionaries(
    {
        "dtype": st.one_of(st.sampled_from(list(DTYPES)), st.text(max_size=3), st.none()),
        "shape": st.one_of(st.lists(sizes, max_size=4), st.none()),
        "data_offsets": st.one_of(st.lists(sizes, min_size=2, max_size=2), st.lists(sizes, max_size=3)),
    }
)
headers = st.dictionaries(st.text(max_size=4), st.one_of(described_tensors, sizes), max_size=4)


@many
@given(header=headers, size=st.integers(0, 40))
def test_safetensors_of_any_header(path: Path, header: object, size: int) -> None:
    path.write_bytes(safetensors_bytes(json.dumps(header).encode("utf-8", "replace"), bytes(size)))
    survives(path)


@many
@given(data=mutations(TORCH))
def test_zip_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    survives(path)


@many
@given(data=mutations(OLD))
def test_old_files_of_torch(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    survives(path)


@many
@given(pickled=mutations(PICKLE))
def test_pickles(path: Path, pickled: bytes) -> None:
    survives(torch_zip(path, pickled, {"0": bytes(48)}))


@many
@given(
    text=mutations(
        b'{"metadata": {"total_size": 1}, "weight_map": {"a": "1.safetensors", "b": "1.safetensors"}}'
    )
)
def test_indexes(path: Path, text: bytes) -> None:
    path.with_name("1.safetensors").write_bytes(
        safetensors_bytes({"a": described("U8", [1], 0, 1), "b": described("U8", [1], 1, 2)}, b"\0\0")
    )
    index = path.with_name("model.safetensors.index.json")
    index.write_bytes(text)
    survives(index)
