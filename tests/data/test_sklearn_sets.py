import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from deepalign_cli.data.sklearn_sets import read_sklearn
from deepalign_cli.errors import MissingExtra, UsageError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (1797, 8, 8), 10),
        ("iris", (150, 4), 3),
        ("wine", (178, 13), 3),
        ("breast_cancer", (569, 30), 2),
    ],
)
def test_a_fifth_is_for_testing(name, shape, classes):
    parts, _ = read_sklearn(name)
    assert set(parts) == {"train", "test"}
    assert len(parts["train"]) == int(shape[0] * 0.8)
    assert len(parts["train"]) + len(parts["test"]) == shape[0]
    for part in parts.values():
        assert part.inputs.shape[1:] == shape[1:]
        assert part.labels.unique().tolist() == list(range(classes))  # shuffled: every class is in both


@pytest.mark.slow
def test_every_example_is_in_one_split_once():
    from sklearn.datasets import load_wine

    parts, _ = read_sklearn("wine")
    x = torch.cat([part.inputs for part in parts.values()]).numpy()
    y = torch.cat([part.labels for part in parts.values()]).numpy()
    found = sorted([*row, label] for row, label in zip(x.tolist(), y.tolist(), strict=True))
    own = load_wine()
    rows = own.data.astype(np.float32).tolist()
    assert found == sorted([*row, label] for row, label in zip(rows, own.target.tolist(), strict=True))


def test_digits_are_pixels_from_0_to_255():
    parts, _ = read_sklearn("digits")
    x = parts["train"].inputs
    assert x.dtype == torch.uint8
    assert x.unique().tolist() == [round(level * 255 / 16) for level in range(17)]


def test_the_split_is_the_same_every_time():
    first, second = read_sklearn("iris")[0], read_sklearn("iris")[0]
    assert torch.equal(first["test"].inputs, second["test"].inputs)


@pytest.mark.parametrize("name", ["", "mnist", "digits:train"])
def test_other_sets_are_refused(name):
    with pytest.raises(UsageError, match="there is no set 'sklearn:") as caught:
        read_sklearn(name)
    assert "sklearn:digits" in caught.value.hint


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra) as caught:
        read_sklearn("digits")
    assert caught.value.hint == "pip install 'deepalign[data]'"


def test_nothing_is_read_from_the_working_directory(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert set(read_sklearn("digits")[0]) == {"train", "test"}
