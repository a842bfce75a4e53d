from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepalign_cli.data.dataset import Data, Part, spaced, whole
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.errors import DataError, UsageError


def _data(split=None, **parts):
    parts = parts or {"": Part(torch.arange(10.0).reshape(10, 1), torch.arange(10))}
    return whole(
        "set.npz", {"" if name == "all" else name: part for name, part in parts.items()}, split, Preparation()
    )


def _part(count, *, labels=True):
    return Part(torch.arange(float(count)).reshape(count, 1), torch.arange(count) if labels else None)


@given(st.integers(0, 200), st.none() | st.integers(1, 300))
def test_places_are_evenly_spaced(count, most):
    places = spaced(count, most).tolist()
    assert len(places) == min(count, most or count)
    assert places == sorted(set(places))
    assert all(0 <= place < count for place in places)
    gaps = {b - a for a, b in pairwise(places)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.integers(1, 13))
def test_batches_are_all_examples_in_order(size):
    batches = list(_data().batches(size))
    assert [len(x) for x, _ in batches[:-1]] == [size] * (len(batches) - 1)
    assert torch.cat([x for x, _ in batches]).flatten().tolist() == list(range(10))
    assert torch.cat([y for _, y in batches]).tolist() == list(range(10))
    assert torch.cat(list(_data().inputs(size))).flatten().tolist() == list(range(10))


class _Watched:
    def __init__(self):
        self.read = []

    def __len__(self):
        return 10

    def __getitem__(self, rows):
        self.read += rows.tolist()
        return torch.zeros(len(rows), 2, dtype=torch.uint8)


def test_inputs_are_read_batch_by_batch():
    watched = _Watched()
    data = _data(all=Part(watched, None))
    batches = data.batches(4)
    assert watched.read == []
    x, labels = next(batches)
    assert watched.read == [0, 1, 2, 3]
    assert x.dtype == torch.float32
    assert labels is None


def test_batches_are_contiguous():
    data = _data(all=Part(torch.zeros(4, 5, 6, 3, dtype=torch.uint8), None))
    assert next(data.inputs(3)).is_contiguous()


def test_head_spreads_over_the_examples():
    head = _data().head(3)
    assert len(head) == 3
    assert head.rows.tolist() == [0, 3, 6]
    assert head.head(2).rows.tolist() == [0, 3]
    assert len(_data().head(99)) == 10
    assert head.name == "set.npz, 3 examples"


def test_names():
    assert _data(test=_part(1)).name == "set.npz, test, 1 example"
    assert _data(test=_part(12_000)).name == "set.npz, test, 12,000 examples"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["train", "test", "validation"], "test"),
        (["train", "validation"], "validation"),
        (["train", "val"], "validation"),
        (["train"], "train"),
        (["train", "all"], ""),
        (["unlabelled", "extra"], "unlabelled"),
        (["Train", "TESTING"], "test"),
    ],
)
def test_the_split_that_is_taken_by_default(names, chosen):
    assert _data(**{name: _part(3) for name in names}).split == chosen


@pytest.mark.parametrize(("asked", "found"), [("val", "validation"), ("TRAIN", "train"), ("extra", "extra")])
def test_a_split_by_any_usual_name(asked, found):
    data = _data(asked, train=_part(1), valid=_part(2), extra=_part(3))
    assert data.split == found


def test_a_split_that_is_not_there():
    with pytest.raises(UsageError, match="has no split 'test', but 'train', 'validation'"):
        _data("test", train=_part(1), val=_part(2))
    with pytest.raises(UsageError, match=r"has no split 'test'\.") as caught:
        _data("test", all=_part(1))
    assert caught.value.hint == "leave --split out."


def test_training_is_all_of_the_training_split():
    data = _data(train=_part(8), test=_part(4)).head(2)
    assert (data.split, len(data)) == ("test", 2)
    assert (data.training().split, len(data.training())) == ("train", 8)
    head = data.training().head(2)
    assert head.training() is head


def test_training_is_the_same_where_there_is_none_that_serves():
    alone = _data(test=_part(4))
    assert alone.training() is alone
    labelled = _data(train=_part(8, labels=False), test=_part(4))
    assert labelled.training() is labelled
    neither = _data(train=_part(8, labels=False), test=_part(4, labels=False))
    assert len(neither.training()) == 8


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(torch.zeros(0, 3), None), "is empty"),
        (Part(torch.zeros(3, 0), None), "is empty"),
        (Part(torch.tensor(3.0), None), "holds one number"),
        (Part(torch.zeros(3, 2), torch.zeros(4)), "has 3 inputs but 4 labels"),
        (Part(torch.zeros(3, 2), torch.tensor(1)), "has 3 inputs but no labels"),
    ],
)
def test_what_is_not_whole_is_refused_in_any_split(part, message):
    for parts in ({"all": part}, {"train": part, "test": _part(3)}):
        with pytest.raises(DataError, match=message):
            _data(**parts)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(value):
    x, y = torch.zeros(6, 2), torch.zeros(6)
    x[5, 1] = y[5] = value
    for what, part in (("inputs", Part(x, None)), ("labels", Part(torch.zeros(6, 2), y))):
        batches = _data(all=part).batches(3)
        next(batches)
        with pytest.raises(DataError, match=f"{what} of 'set.npz' hold NaN or Inf"):
            next(batches)


def test_large_finite_inputs_are_not_refused():
    x = torch.full((4, 2), 3e38)
    assert torch.equal(next(_data(all=Part(x, None)).inputs(4)), x)


def test_a_part_that_is_no_tensor_is_a_data_set():
    assert isinstance(_data(all=Part(_Watched(), torch.arange(10))), Data)
