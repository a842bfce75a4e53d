import math
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepalign_cli.data.arrays import _place, as_labels, as_tensor, read_npz, read_tensors
from deepalign_cli.errors import CheckpointError, DataError
from tests.data.files import npy, npz


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("inputs", ("", "inputs")), ("images", ("", "inputs")), ("x", ("", "inputs")), ("X", ("", "inputs")),
        ("data", ("", "inputs")), ("input_ids", ("", "inputs")), ("tokens", ("", "inputs")),
        ("labels", ("", "labels")), ("y", ("", "labels")), ("target", ("", "labels")),
        ("train_images", ("train", "inputs")), ("test_labels", ("test", "labels")),
        ("x_train", ("train", "inputs")), ("X_test", ("test", "inputs")), ("y_test", ("test", "labels")),
        ("train/labels", ("train", "labels")), ("train.x", ("train", "inputs")),
        ("train-images", ("train", "inputs")), ("val_x", ("validation", "inputs")),
        ("validation_labels", ("validation", "labels")), ("valid/inputs", ("validation", "inputs")),
        ("training_input_ids", ("train", "inputs")), ("testing.targets", ("test", "labels")),
    ],
)  # fmt: skip
def test_names_tell_split_and_role(name, place):
    assert _place(name) == place


@pytest.mark.parametrize(
    "name", ["", "train", "weights", "fc1.weight", "attention_mask", "train_test_x", "xtrain", "x_y"]
)
def test_other_names_tell_no_role(name):
    assert _place(name)[1] is None


def test_reads_splits_and_types(tmp_path):
    path = tmp_path / "set.npz"
    arrays = {
        "train_images": np.arange(24, dtype=np.uint8).reshape(4, 2, 3),
        "train_labels": np.arange(4, dtype=np.uint8).reshape(4, 1),
        "x_test": np.ones((2, 2, 3), ">f4"),
        "y_test": np.array([0.5, 1.5]),
        "classes": np.array([1, 2, 3]),
    }
    np.savez_compressed(path, **arrays)
    parts, facts = read_npz(path)
    assert set(parts) == {"train", "test"}
    assert facts == {}
    assert torch.equal(parts["train"].inputs, torch.arange(24, dtype=torch.uint8).reshape(4, 2, 3))
    assert torch.equal(parts["train"].labels, torch.arange(4))
    assert torch.equal(parts["test"].inputs, torch.ones(2, 2, 3))
    assert torch.equal(parts["test"].labels, torch.tensor([0.5, 1.5], dtype=torch.float64))


@pytest.mark.parametrize("dtype", ["b", "<u2", ">u2", "<u4", "<u8", "<i2", ">i8", "<f2", "<f8", ">f8", "?"])
def test_every_type_of_numbers_is_read_as_it_is(dtype):
    array = np.array([[0, 1], [1, 100]]).astype(dtype)
    assert np.array_equal(as_tensor(array).numpy(), array)


def test_tensors_do_not_alias_read_only_or_reversed_arrays():
    array = np.arange(6)[::-1]
    array.flags.writeable = False
    assert as_tensor(array).tolist() == [5, 4, 3, 2, 1, 0]


def test_labels_of_one_column_are_a_row_where_they_are_whole():
    assert as_labels(torch.ones(3, 1, dtype=torch.uint8)).shape == (3,)
    assert as_labels(torch.ones(3, 1)).shape == (3, 1)
    assert as_labels(torch.ones(3, 2, dtype=torch.int32)).dtype == torch.int64


_HUGE = {"descr": "<f4", "fortran_order": False, "shape": (250_000_000_000,)}


def test_a_header_that_claims_a_terabyte_takes_no_memory(tmp_path):
    path = npz(tmp_path / "set.npz", {"inputs": npy(np.zeros(3, np.float32), _HUGE)})
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="claims 1,000,000,000,000 bytes, which it does not hold"):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


def test_a_directory_that_claims_a_terabyte_takes_no_memory(tmp_path):
    path = npz(tmp_path / "set.npz", {"inputs": npy(np.zeros(3, np.float32), _HUGE)})
    raw = bytearray(path.read_bytes())
    place = raw.index(b"PK\1\2")
    struct.pack_into("<II", raw, place + 20, 2**32 - 2, 2**32 - 2)  # compressed and uncompressed size
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"claim to hold 4,294,967,294"):
        read_npz(path)


@pytest.mark.slow
def test_a_zip_bomb_is_refused_and_plain_zeros_are_not(tmp_path):
    zeros = npy(np.zeros(80 * 2**20, np.uint8))
    bomb = npz(tmp_path / "bomb.npz", {"inputs": zeros}, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match="claim to hold"):
        read_npz(bomb)
    fair = npz(tmp_path / "set.npz", {"inputs": npy(np.zeros((100, 10_000)))}, zipfile.ZIP_DEFLATED)
    assert read_npz(fair)[0][""].inputs.shape == (100, 10_000)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array(["a", "b"]), "not numbers"),
        (np.array([b"a", b"b"]), "not numbers"),
        (np.array([1j, 2j]), "not numbers"),
        (np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]), "not numbers"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "not numbers"),
    ],
)
def test_other_types_are_refused(tmp_path, array, message):
    np.savez(tmp_path / "set.npz", inputs=array)
    with pytest.raises(DataError, match=message):
        read_npz(tmp_path / "set.npz")


class _Trap:
    sprung = False

    def __reduce__(self):
        return setattr, (_Trap, "sprung", True)


def test_pickled_objects_are_not_loaded(tmp_path):
    content = npy(np.array([_Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="holds object, not numbers"):
        read_npz(npz(tmp_path / "set.npz", {"inputs": content}))
    assert not _Trap.sprung


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00v\x00{}",
        npy(np.zeros(9))[:-5],
        npy(np.zeros(4), {"descr": "<f4", "fortran_order": False, "shape": (-1,)}),
        npy(np.zeros(4), {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**40, 0)}),
        npy(np.zeros(4), {"descr": "|V0", "fortran_order": False, "shape": (3,)}),
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"-" * 9000,
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{",
    ],
)
def test_broken_arrays_are_refused_in_a_sentence(tmp_path, content):
    with pytest.raises(DataError) as caught:
        read_npz(npz(tmp_path / "set.npz", {"inputs": content}))
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.slow
@given(st.data())
def test_damaged_archives_raise_nothing_else(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damaged") / "set.npz"
    arrays = {"inputs": np.arange(20.0).reshape(5, 4), "labels": np.arange(5)}
    data.draw(st.sampled_from([np.savez, np.savez_compressed]))(path, **arrays)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        parts, _ = read_npz(path)
    except DataError:
        return
    assert all(math.prod(part.inputs.shape) <= 20 for part in parts.values())


def test_two_arrays_of_one_role_are_refused(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 3)), x=np.zeros((2, 3)))
    with pytest.raises(DataError, match="holds the inputs of 'all' twice"):
        read_npz(tmp_path / "set.npz")


def test_two_members_of_one_name_are_refused(tmp_path):
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("inputs.npy", npy(np.zeros(3)))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("inputs.npy", npy(np.ones(3)))
    with pytest.raises(DataError, match="two of its arrays have the same name"):
        read_npz(path)


@pytest.mark.parametrize("arrays", [{}, {"labels": np.zeros(3)}, {"weights": np.zeros(3), "b": np.zeros(3)}])
def test_what_holds_no_inputs_is_no_data_set(tmp_path, arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match="is not a data set: it holds") as caught:
        read_npz(tmp_path / "set.npz")
    assert "inputs and labels" in caught.value.hint


def test_reads_safetensors_with_their_metadata(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "set.safetensors"
    save_file(
        {"test/images": torch.ones(2, 3), "test/labels": torch.tensor([1, 2], dtype=torch.uint8)},
        path, {"mean": "0.5"},
    )  # fmt: skip
    parts, facts = read_tensors(path)
    assert torch.equal(parts["test"].inputs, torch.ones(2, 3))
    assert parts["test"].labels.dtype == torch.int64
    assert facts["mean"] == "0.5"


def test_broken_safetensors_are_refused(tmp_path):
    (tmp_path / "set.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "set.safetensors")


def test_what_is_neither_inputs_nor_labels_is_not_read(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, images=np.zeros((2, 3)), class_names=np.array(["cat", "dog"]), meta=np.array([{}]))

    parts, _ = read_npz(path)

    assert list(parts) == [""]
    assert parts[""].inputs.shape == (2, 3)
