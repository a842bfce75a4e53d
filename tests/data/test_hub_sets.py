import sys

import numpy as np
import pytest
import torch

from deepalign_cli.data.hub_sets import read_hub
from deepalign_cli.data.sources import Wanted, load_data
from deepalign_cli.errors import DataError, MissingExtra, UsageError

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore")  # the library's own


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def _saved(folder, columns, features=None):
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(folder))
    return str(folder)


def _images(count, mode="RGB", size=(5, 4)):
    from PIL import Image

    return [Image.new(mode, size, k if mode == "L" else (k, 1, 2)) for k in range(count)]


def _features(**columns):
    return datasets.Features(columns)


def _classes(*names):
    return datasets.ClassLabel(names=list(names))


def test_images_and_classes_are_found_by_their_features(tmp_path):
    features = _features(
        about=datasets.Value("string"), scan=datasets.Image(), number=datasets.Value("int64"),
        animal=_classes("cat", "dog"),
    )  # fmt: skip
    columns = {"about": ["a"] * 4, "scan": _images(4), "number": [9] * 4, "animal": [0, 1, 1, 0]}
    parts, _ = read_hub(_saved(tmp_path / "set", columns, features))
    x, y = parts[""].read(torch.tensor([3, 1]))
    assert x.shape == (2, 4, 5, 3)
    assert x.dtype == torch.uint8
    assert x[:, 0, 0].tolist() == [[3, 1, 2], [1, 1, 2]]
    assert y.tolist() == [0, 1]


def test_splits_of_a_saved_dict(tmp_path):
    features = _features(image=datasets.Image(), label=_classes("a", "b"))
    splits = {
        name: datasets.Dataset.from_dict(
            {"image": _images(n, "L"), "label": [k % 2 for k in range(n)]}, features=features
        )
        for name, n in (("train", 5), ("validation", 3))
    }
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "set"))
    data = load_data(f"hf:{tmp_path / 'set'}", wanted=Wanted("unit"))
    assert data.name.endswith("set, validation, 3 examples")
    ((x, y),) = data.batches(8)
    torch.testing.assert_close(x[:, 0, 0, 0], torch.tensor([0, 1, 2]) / 255)
    assert y.tolist() == [0, 1, 0]
    assert len(data.training()) == 5


def test_folders_that_datasets_loads_itself(tmp_path):
    (tmp_path / "set").mkdir()
    columns = {"x": [[1.0, 2.0], [3.0, 4.0]], "y": [0.5, 1.5]}
    datasets.Dataset.from_dict(columns).to_parquet(str(tmp_path / "set" / "train.parquet"))
    parts, _ = read_hub(str(tmp_path / "set"))
    x, y = parts["train"].read(torch.arange(2))
    assert x.tolist() == [[1, 2], [3, 4]]
    assert y.tolist() == [0.5, 1.5]


def test_tokens_without_labels(tmp_path):
    parts, _ = read_hub(_saved(tmp_path / "set", {"input_ids": [[1, 2, 3], [4, 5, 6]]}))
    x, y = parts[""].read(torch.tensor([1]))
    assert x.tolist() == [[4, 5, 6]]
    assert not x.is_floating_point()
    assert y is None


def test_of_several_classes_the_usual_name_is_taken(tmp_path):
    features = _features(
        img=datasets.Image(), coarse_label=_classes("a", "b"), fine_label=_classes("a", "b", "c")
    )
    columns = {"img": _images(2), "coarse_label": [0, 1], "fine_label": [2, 2]}
    parts, _ = read_hub(_saved(tmp_path / "set", columns, features))
    assert parts[""].read(torch.arange(2))[1].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        ({"text": ["a"], "label": [1]}, None, "no column of images or numbers, only 'text', 'label'"),
        ({"x": [[1.0], [1.0, 2.0]]}, None, "not all numbers of one shape"),
        (
            {"left": 1, "right": 1, "label": [0]},
            {"left": "image", "right": "image", "label": "class"},
            "several columns to choose from: 'left', 'right'",
        ),
        (
            {"image": 1, "up": [0], "down": [0]},
            {"image": "image", "up": "class", "down": "class"},
            "several columns to choose from: 'up', 'down'",
        ),
    ],
)
def test_what_cannot_be_told_is_refused(tmp_path, columns, features, message):
    kinds = {"image": datasets.Image(), "class": _classes("a", "b")}
    made = features and _features(**{name: kinds[kind] for name, kind in features.items()})
    columns = {name: _images(value) if isinstance(value, int) else value for name, value in columns.items()}
    place = _saved(tmp_path / "set", columns, made)
    with pytest.raises(DataError, match=message) as caught:
        next(load_data(f"hf:{place}", wanted=Wanted("none")).batches(10))
    assert "file.py:factory" in caught.value.hint


def test_a_row_without_an_image_is_refused(tmp_path):
    features = _features(image=datasets.Image())
    parts, _ = read_hub(_saved(tmp_path / "set", {"image": [*_images(1), None]}, features))
    with pytest.raises(DataError, match="row 1 of 'image' holds no image"):
        parts[""].read(torch.arange(2))


def test_a_broken_image_is_refused(tmp_path):
    features = _features(image=datasets.Image())
    rows = {"image": [{"bytes": b"broken", "path": None}]}
    parts, _ = read_hub(_saved(tmp_path / "set", rows, features))
    with pytest.raises(DataError, match="row 0 of 'image' is not a readable image"):
        parts[""].read(torch.arange(1))


def test_a_set_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, DataError), match="'hf:nobody/nothing:all'") as caught:
        read_hub("nobody/nothing:all")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_code_in_a_folder_is_not_run(tmp_path):
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises((UsageError, DataError)):
        read_hub(str(folder))
    assert not (tmp_path / "ran").exists()


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra) as caught:
        read_hub("mnist")
    assert caught.value.hint == "pip install 'deepalign[data]'"


def test_arrays_of_several_axes(tmp_path):
    features = _features(x=datasets.Array2D((2, 3), "float32"), y=datasets.Value("int32"))
    values = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    parts, _ = read_hub(_saved(tmp_path / "set", {"x": list(values), "y": [3, 2, 1, 0]}, features))
    x, y = parts[""].read(torch.tensor([2]))
    assert torch.equal(x, torch.from_numpy(values[2:3]))
    assert y.tolist() == [1]
