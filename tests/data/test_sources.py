import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deepalign_cli.data.preparation import Preparation
from deepalign_cli.data.sources import Wanted, load_data
from deepalign_cli.errors import CheckpointError, DataError, UsageError
from tests.data.files import picture_folder

PIXELS = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)


@pytest.fixture
def pixels(tmp_path):
    np.savez(tmp_path / "set.npz", images=PIXELS, labels=np.arange(2))
    return str(tmp_path / "set.npz")


@pytest.fixture
def numbers(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.linspace(0, 1, 8).reshape(4, 2), y=np.arange(4))
    return str(tmp_path / "set.npz")


def test_pixels_need_a_word_on_how_they_are_read(pixels):
    with pytest.raises(UsageError, match=r"'set\.npz' holds pixels from 0 to 255") as caught:
        load_data(pixels)
    for choice in ("unit", "standard", "0.1307,0.3081", "0.5,0.5,0.5/0.2,0.2,0.2"):
        assert choice in caught.value.hint


@pytest.mark.parametrize(
    ("wanted", "preparation"),
    [
        (Wanted("unit"), Preparation()),
        (Wanted("unit", side=2), Preparation(2)),
        (Wanted("0.5,0.25", grey=True), Preparation(None, True, (0.5,), (0.25,))),
        (Wanted("0.5,0.4/0.25,0.1"), Preparation(None, False, (0.5, 0.4), (0.25, 0.1))),
    ],
)
def test_what_the_user_wants(pixels, wanted, preparation):
    assert load_data(pixels, wanted=wanted).preparation == preparation


def test_the_user_goes_before_the_checkpoint(pixels):
    declared = Preparation(2, True, (0.1,), (0.2,))
    assert load_data(pixels, declared=declared).preparation == declared
    found = load_data(pixels, declared=declared, wanted=Wanted("0.5,0.5", side=3))
    assert found.preparation == Preparation(3, True, (0.5,), (0.5,))
    assert load_data(pixels, declared=declared, wanted=Wanted("unit")).preparation == Preparation(2, True)


def test_a_file_declares_its_own(tmp_path):
    path = tmp_path / "set.safetensors"
    save_file({"images": torch.from_numpy(PIXELS)}, path, {"mean": "0.5", "std": "0.25"})
    assert load_data(str(path)).preparation == Preparation(mean=(0.5,), std=(0.25,))
    other = Preparation(2)
    assert load_data(str(path), declared=other).preparation == other


@pytest.mark.parametrize(
    "facts", [{"mean": "x", "std": "1"}, {"mean": "0.5", "std": "0"}, {"mean": "", "std": "1"}]
)
def test_a_file_that_declares_nonsense(tmp_path, facts):
    path = tmp_path / "set.safetensors"
    save_file({"images": torch.from_numpy(PIXELS)}, path, facts)
    with pytest.raises(DataError, match="the data file does not describe how images are prepared") as caught:
        load_data(str(path))
    assert "--normalise" in caught.value.hint


def test_numbers_with_a_point_are_taken_as_they_are(numbers):
    data = load_data(numbers, declared=Preparation(2, True, (0.5,), (0.5,)))
    assert data.preparation == Preparation()
    ((x, _),) = data.batches(9)
    assert x.numpy().tolist() == np.linspace(0, 1, 8).reshape(4, 2).tolist()
    shifted = next(load_data(numbers, wanted=Wanted("0.5,0.25")).inputs(9))
    torch.testing.assert_close(shifted, (x - 0.5) / 0.25)


def test_standard_numbers(numbers):
    x = next(load_data(numbers, wanted=Wanted("standard")).inputs(9))
    assert float(x.mean()) == pytest.approx(0, abs=1e-12)
    assert float(x.std(correction=0)) == pytest.approx(1)


def test_standard_of_a_constant_is_finite(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.ones((3, 2)))
    assert next(load_data(str(tmp_path / "set.npz"), wanted=Wanted("standard")).inputs(9)).abs().max() == 0


def test_tokens(tmp_path):
    np.savez(tmp_path / "set.npz", tokens=np.arange(6, dtype=np.int32).reshape(2, 3))
    x, labels = next(load_data(str(tmp_path / "set.npz"), declared=Preparation(8)).batches(9))
    assert x.dtype == torch.int64
    assert x.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert labels is None
    with pytest.raises(UsageError, match=r"integers \(int32\), which are not normalised"):
        load_data(str(tmp_path / "set.npz"), wanted=Wanted("standard"))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("none"), "leaves pixels from 0 to 255"),
        (Wanted("half"), "--normalise cannot be 'half'"),
        (Wanted("unit", side=0), "--side is 0"),
        (Wanted(side=-3), "--side is -3"),
    ],
)
def test_what_cannot_be_wanted_of_pixels(pixels, wanted, message):
    with pytest.raises(UsageError, match=message) as caught:
        load_data(pixels, wanted=wanted)
    assert caught.value.hint


def test_unit_is_for_pixels(numbers):
    with pytest.raises(UsageError, match="unit is for pixels"):
        load_data(numbers, wanted=Wanted("unit"))


def test_limit_spreads_and_leaves_the_training_split_whole(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=np.zeros((30, 2)), x_test=np.arange(20.0).reshape(10, 2))
    data = load_data(str(tmp_path / "set.npz"), limit=5)
    assert next(data.inputs(9))[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert len(data.training()) == 30
    assert data.name == "set.npz, test, 5 examples"
    with pytest.raises(UsageError, match="--limit is 0"):
        load_data(str(tmp_path / "set.npz"), limit=0)


def test_every_kind_of_source(tmp_path, pixels):
    pytest.importorskip("sklearn")
    pytest.importorskip("PIL")
    folder = picture_folder(tmp_path / "pictures")
    (tmp_path / "own.py").write_text("def make():\n    return [[1.0, 2.0]], [0]\n")
    unit = Wanted("unit")
    assert load_data(pixels, wanted=unit).name == "set.npz, 2 examples"
    assert load_data(str(folder), wanted=unit).name == "pictures, 6 examples"
    assert load_data("sklearn:digits", wanted=unit).name == "sklearn:digits, test, 360 examples"
    assert load_data("sklearn:iris", "train").name == "sklearn:iris, train, 120 examples"
    assert load_data(f"{tmp_path}/own.py:make").name == "own.py:make, 1 example"


@pytest.mark.parametrize("source", ["", "lost.npz", "lost", "sklearn", "lost:", "x" * 5000, "a\0b"])
def test_a_source_that_is_not_there(source):
    with pytest.raises(UsageError, match="there is no data set") as caught:
        load_data(source)
    assert "sklearn:NAME" in caught.value.hint


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "set.csv").write_text("1,2\n")
    with pytest.raises(UsageError, match=r"cannot read '.*set\.csv' as data"):
        load_data(str(tmp_path / "set.csv"))


@pytest.mark.parametrize(("name", "error"), [("set.npz", DataError), ("set.safetensors", CheckpointError)])
def test_a_broken_file(tmp_path, name, error):
    (tmp_path / name).write_bytes(b"broken")
    with pytest.raises(error) as caught:
        load_data(str(tmp_path / name))
    assert caught.value.exit_code == 3


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all"
)
def test_a_file_that_may_not_be_read(pixels):
    os.chmod(pixels, 0)  # noqa: PTH101
    with pytest.raises(DataError, match="Permission denied"):
        load_data(pixels, wanted=Wanted("unit"))
