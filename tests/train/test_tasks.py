from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.train.tasks import Task, load_examples
from deepalign_cli.train.texts import characters_of
from tests.train.builders import FIELD, TEXT, TINY, write_data, write_text


def test_pixels_are_normalised_by_the_training_images(tmp_path: Path) -> None:
    found = load_examples(TINY, write_data(tmp_path))
    assert found.train_x.shape == (200, 1, 8, 8)
    assert found.test_x.shape == (100, 1, 8, 8)
    assert abs(float(found.train_x.mean())) < 1e-5
    assert float(found.train_x.std()) == pytest.approx(1, rel=1e-5)
    assert found.train_y.dtype == torch.int64
    assert found.train_y.tolist() == [i % 4 for i in range(200)]
    with np.load(tmp_path / "tiny.npz") as stored:
        raw, test = (torch.from_numpy(stored[f"{part}_images"]) / 255 for part in ("train", "test"))
    assert torch.allclose(found.test_x[:, 0], (test - raw.mean()) / raw.std(), atol=1e-5)


def test_fewer_images_are_taken_evenly(tmp_path: Path) -> None:
    folder = write_data(tmp_path)
    whole = load_examples(TINY, folder)
    few = load_examples(Task("tiny", side=8, images=50, test=3), folder)
    assert (len(few.train_x), len(few.test_x)) == (50, 3)
    assert torch.equal(few.train_y, whole.train_y[::4])
    assert torch.equal(few.test_y, whole.test_y[::33][:3])


def test_images_are_pooled_to_the_side(tmp_path: Path) -> None:
    folder = write_data(tmp_path)
    whole, half = load_examples(TINY, folder), load_examples(Task("tiny", side=4, images=200), folder)
    pooled = torch.nn.functional.avg_pool2d(whole.train_x, 2)
    assert torch.allclose(half.train_x, (pooled - pooled.mean()) / pooled.std(), atol=1e-4)


def test_colours_are_kept_or_averaged(tmp_path: Path) -> None:
    folder = write_data(tmp_path, colours=3)
    colour = load_examples(Task("tiny", side=8, images=200, grey=False), folder)
    grey = load_examples(TINY, folder)
    assert colour.train_x.shape == (200, 3, 8, 8)
    assert grey.train_x.shape == (200, 1, 8, 8)
    mean = colour.train_x.mean(1, keepdim=True)
    assert torch.allclose(grey.train_x, (mean - mean.mean()) / mean.std(), atol=1e-4)


def test_a_field_maps_places_to_brightness(tmp_path: Path) -> None:
    found = load_examples(FIELD, write_data(tmp_path))
    assert found.train_x.shape == (64, 2)
    assert found.train_y.shape == (4, 64)
    assert found.train_x[0].tolist() == [-1, -1]
    assert found.train_x[7].tolist() == [-1, 1]  # rows first, as images are stored
    assert found.train_x[63].tolist() == [1, 1]
    with np.load(tmp_path / "tiny.npz") as stored:
        images = torch.from_numpy(stored["train_images"][::50])
    assert torch.allclose(found.train_y.reshape(4, 8, 8), images / 127.5 - 1, atol=1e-6)
    assert torch.equal(found.test_y, found.train_y)


def test_text_is_rows_and_what_comes_next(tmp_path: Path) -> None:
    found = load_examples(TEXT, write_text(tmp_path))
    assert found.train_x.shape == found.train_y.shape == (200, 12)
    assert found.test_x.shape == found.test_y.shape == (50, 12)
    assert torch.equal(found.train_x[:, 1:], found.train_y[:, :-1])
    text = (tmp_path / "abc.txt").read_text()
    assert found.train_x[0].tolist() == characters_of(text[:12]).tolist()
    assert found.train_y[0, -1] == characters_of(text[12])[0]
    assert found.test_x[0].tolist() == characters_of(text[90_000:90_012]).tolist()
    step = (len(text) - 10_000) // 13 // 200
    start = 13 * step
    assert found.train_x[1].tolist() == characters_of(text[start : start + 12]).tolist()


def test_a_short_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "abc.txt").write_text("abc" * 20_000)  # no tenth block
    with pytest.raises(UsageError, match="too short for a context of 12") as caught:
        load_examples(TEXT, tmp_path)
    assert "10,000 characters" in caught.value.hint


def test_a_data_set_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tiny\.npz") as caught:
        load_examples(TINY, tmp_path)
    assert "--data" in caught.value.hint


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "tiny.npz", train_images=np.zeros((3, 8, 8), np.uint8))
    with pytest.raises(UsageError, match="train_labels"):
        load_examples(TINY, tmp_path)
    (tmp_path / "tiny.npz").write_bytes(b"no archive at all")
    with pytest.raises(UsageError, match="not a data set"):
        load_examples(TINY, tmp_path)


@pytest.mark.parametrize(
    ("images", "labels", "named"),
    [
        (np.zeros((3, 8, 8), np.uint8), np.zeros(2, np.uint8), "3 images but labels of shape"),
        (np.zeros((3, 8, 8), np.uint8), np.zeros((3, 1), np.uint8), "3 images but labels of shape"),
        (np.zeros((3, 8, 8), np.uint8), np.zeros(3), "labels are not integers"),
        (np.zeros((3, 8, 8), np.uint8), np.array([0, -1, 2]), "labels are not integers"),
        (np.zeros((3, 8, 8)), np.zeros(3, np.uint8), "float64"),
        (np.zeros((3, 64), np.uint8), np.zeros(3, np.uint8), "64"),
        (np.zeros((0, 8, 8), np.uint8), np.zeros(0, np.uint8), "0, 8, 8"),
        (np.array([None] * 3), np.zeros(3, np.uint8), "pickle"),
    ],
)
def test_arrays_of_other_kinds_are_named(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, named: str
) -> None:
    write_data(tmp_path)
    with np.load(tmp_path / "tiny.npz") as stored:
        arrays = dict(stored)
    np.savez(tmp_path / "tiny.npz", **{**arrays, "test_images": images, "test_labels": labels})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=named):
        load_examples(TINY, tmp_path)


@pytest.mark.parametrize("damage", ["empty", "half", "end", "a folder", "below a file"])
def test_a_broken_data_set_is_refused(tmp_path: Path, damage: str) -> None:
    path = write_data(tmp_path) / "tiny.npz"
    whole = path.read_bytes()
    if damage == "below a file":
        with pytest.raises(UsageError, match="not a data set"):
            load_examples(TINY, path)
        return
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "half": whole[: len(whole) // 2], "end": whole[:-30]}[damage])
    with pytest.raises(UsageError, match="not a data set"):
        load_examples(TINY, tmp_path)


def test_grey_images_have_no_colours(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no colours"):
        load_examples(Task("tiny", side=8, grey=False), write_data(tmp_path))


def test_oblong_images_are_made_square(tmp_path: Path) -> None:
    path = write_data(tmp_path) / "tiny.npz"
    with np.load(path) as stored:
        arrays = {k: v[:, :, 2:] if k.endswith("images") else v for k, v in stored.items()}
    np.savez(path, **arrays)
    assert load_examples(Task("tiny", side=6, images=200), tmp_path).train_x.shape == (200, 1, 6, 6)
    with pytest.raises(UsageError, match="smaller than side 8"):
        load_examples(TINY, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"side": 0}, {"images": -1}, {"test": True}, {"field": True, "grey": False}, {"context": -1},
        {"field": True, "context": 8},
    ],
)  # fmt: skip
def test_an_unusable_task_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Task("tiny", **options)


def test_images_are_not_made_larger(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="smaller than side 9"):
        load_examples(Task("tiny", side=9), write_data(tmp_path))
