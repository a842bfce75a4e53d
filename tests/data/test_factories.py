import pytest
import torch
from torch.utils.data import DataLoader, SubsetRandomSampler, TensorDataset, default_collate

from deepalign_cli.data.dataset import Part
from deepalign_cli.data.factories import Items, read_factory, splits_of
from deepalign_cli.data.sources import load_data
from deepalign_cli.errors import DataError, DeepalignError, UsageError

_HEAD = """
import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

class Squares(Dataset):
    fetched = []
    def __len__(self):
        return 10
    def __getitem__(self, k):
        self.fetched.append(k)
        return np.full((1, 2), k, np.float32), k * k

class Bare(Dataset):
    def __len__(self):
        return 3
    def __getitem__(self, k):
        return ITEMS[k]

class Stream(IterableDataset):
    def __iter__(self):
        yield 1
"""


@pytest.fixture
def factory(tmp_path):
    def write(body, head=_HEAD):
        (tmp_path / "own_data.py").write_text(f"{head}\ndef make():\n    {body}\n")
        return f"{tmp_path / 'own_data.py'}:make"

    return write


@pytest.mark.parametrize(
    "value",
    [
        "torch.ones(3, 2), torch.tensor([1, 2, 3])",
        "np.ones((3, 2), np.float32), np.array([1, 2, 3], np.uint8)",
        "[[1.0, 1], [1, 1], [1, 1]], [1, 2, 3]",
        "TensorDataset(torch.ones(3, 2), torch.tensor([1, 2, 3]))",
        "[torch.ones(3, 2, requires_grad=True), torch.tensor([[1], [2], [3]])]",
    ],
)
def test_inputs_and_labels_in_every_form(factory, value):
    data = load_data(factory(f"return {value}"))
    ((x, y),) = data.batches(10)
    assert torch.equal(x, torch.ones_like(x))
    assert x.shape == (3, 2)
    assert not x.requires_grad
    assert y.tolist() == [1, 2, 3]
    assert y.dtype == torch.int64
    assert data.name == "own_data.py:make, 3 examples"


@pytest.mark.parametrize("value", ["torch.ones(3, 2)", "np.ones((3, 2))", "(torch.ones(3, 2), None)"])
def test_inputs_alone(factory, value):
    ((x, y),) = load_data(factory(f"return {value}")).batches(10)
    assert x.shape == (3, 2)
    assert y is None


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"batch_size": 4}, 10),
        ({"batch_size": 4, "shuffle": True}, 10),
        ({"batch_size": 4, "sampler": SubsetRandomSampler([1, 3, 5])}, 3),
        ({"batch_sampler": [[0, 1], [2]]}, 3),
        ({"batch_size": 4, "collate_fn": lambda items: default_collate([(2 * x, y) for x, y in items])}, 10),
    ],
)
def test_a_loader_gives_the_examples_that_it_gives_torch(options, count):
    x, y = torch.arange(20.0).reshape(10, 2), torch.arange(10)
    split = splits_of(DataLoader(TensorDataset(x, y), **options), "data")[""]
    inputs, labels = split.read(torch.arange(len(split)))
    assert len(split) == count
    assert torch.equal(inputs, x[labels] * (2 if "collate_fn" in options else 1))
    assert split.__class__ is (Items if set(options) <= {"batch_size", "shuffle"} else Part)


@pytest.mark.parametrize("batch", [torch.ones(4, 2), [torch.ones(4, 2)], (torch.ones(4, 2),)])
def test_a_loader_of_inputs_alone(batch):
    split = splits_of(DataLoader([batch, batch], batch_size=None), "data")[""]
    assert split.read(torch.arange(8))[1] is None
    plain = splits_of(DataLoader(TensorDataset(torch.ones(3, 2))), "data")[""]
    assert plain.read(torch.arange(3))[1] is None


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(1, 2, 3)], "batches of 'data' are not"),
        ([(torch.ones(2), torch.ones(2)), torch.ones(2)], "batches of 'data' are not"),
        ([], "batches of 'data' are not"),
        ([torch.ones(2, 2), torch.ones(2, 3)], "raised RuntimeError"),
        ([{"x": 1}], "gives dict, not numbers"),
    ],
)
def test_a_loader_of_something_else_is_refused(batches, message):
    with pytest.raises(DeepalignError, match=message):
        splits_of(DataLoader(batches, batch_size=None), "data")


def test_splits(factory):
    source = factory("return {'Train': (np.zeros((4, 2)), np.zeros(4)), 'test': torch.ones(3, 2)}")
    assert load_data(source).name == "own_data.py:make, test, 3 examples"
    assert load_data(source, "train").name == "own_data.py:make, train, 4 examples"
    assert load_data(source).training().split == "train"


def test_items_of_a_dataset_are_fetched_as_they_are_read(factory):
    data = load_data(factory("return Squares()"), limit=5)
    fetched = data.part.items.fetched
    fetched.clear()
    batches = data.batches(2)
    assert fetched == []
    x, y = next(batches)
    assert fetched == [0, 2]
    assert x[:, 0, 0].tolist() == [0, 2]
    assert y.tolist() == [0, 4]
    assert [labels.tolist() for _, labels in batches] == [[16, 36], [64]]


def test_a_dataset_of_pictures(factory):
    pytest.importorskip("PIL")
    head = _HEAD + "from PIL import Image\nITEMS = [(Image.new('L', (5, 4), k), k) for k in range(3)]\n"
    parts, _ = read_factory(factory("return Bare()", head))
    x, y = parts[""].read(torch.tensor([2, 0]))
    assert x.dtype == torch.uint8
    assert x.shape == (2, 4, 5)
    assert x[:, 0, 0].tolist() == y.tolist() == [2, 0]


def test_a_dataset_of_inputs_alone(factory):
    parts, _ = read_factory(factory("return Bare()", _HEAD + "ITEMS = [torch.ones(2)] * 3\n"))
    x, y = parts[""].read(torch.arange(3))
    assert x.shape == (3, 2)
    assert y is None


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ("[(1, 2, 3)] * 3", "is not \\(input, label\\)"),
        ("[(torch.ones(2), 0), torch.ones(2), torch.ones(2)]", ", not numbers"),
        ("[torch.ones(2), torch.ones(3), torch.ones(2)]", "differ in shape or type"),
        ("[torch.ones(2), torch.ones(2).double(), torch.ones(2)]", "differ in shape or type"),
        ("['a', 'b', 'c']", "gives str, not numbers"),
        ("[{'x': 1}] * 3", "gives dict, not numbers"),
    ],
)
def test_items_that_make_no_batch_are_refused(factory, items, message):
    parts, _ = read_factory(factory("return Bare()", f"{_HEAD}\nITEMS = {items}\n"))
    with pytest.raises(DataError, match=message):
        parts[""].read(torch.arange(3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ("None", UsageError, "gives NoneType, not data"),
        ("3", UsageError, "gives int, not data"),
        ("Stream()", UsageError, "gives Stream, not data"),
        ("Squares", UsageError, "gives type, not data"),
        ("'digits.npz'", UsageError, "gives str, not data"),
        ("{}", UsageError, "without names of splits"),
        ("{1: torch.ones(2, 2)}", UsageError, "without names of splits"),
        ("(torch.ones(2, 2),)", UsageError, "gives 1 things"),
        ("(1, 2, 3)", UsageError, "gives 3 things"),
        ("(['a'], [1])", DataError, ", not numbers"),
        ("([[1, 2], [3]], [1, 2])", DataError, ", not numbers"),
        ("(np.array([None]), [1])", DataError, ", not numbers"),
        ("(3, 4)", DataError, "holds one number"),
        ("(torch.ones(0, 2), torch.ones(0))", DataError, "is empty"),
        ("(torch.ones(3, 2), [1, 2])", DataError, "3 inputs but 2 labels"),
    ],
)
def test_what_is_no_data_is_refused(factory, value, error, message):
    with pytest.raises(DeepalignError, match=message) as caught:
        load_data(factory(f"return {value}"))
    assert type(caught.value) is error
    assert caught.value.hint


@pytest.mark.parametrize("body", ["raise KeyError('lost\\nhere')", "return 1 / 0", "raise SystemExit(3)"])
def test_a_factory_that_raises(factory, body):
    with pytest.raises(
        DeepalignError, match=r"own_data\.py:make' raised (KeyError|Zero|SystemExit)"
    ) as caught:
        read_factory(factory(body))
    assert "\n" not in caught.value.message


def test_a_dataset_that_raises(factory):
    parts, _ = read_factory(factory("return Bare()", _HEAD + "ITEMS = []\n"))
    with pytest.raises(DeepalignError, match="raised IndexError"):
        parts[""].read(torch.arange(3))


@pytest.mark.parametrize("name", ["lost.py:make", "own_data.py:lost", "no.such.module:make"])
def test_a_factory_that_is_not_there(factory, tmp_path, name):
    source = factory("return 1")
    reference = f"{tmp_path}/{name}" if ".py" in name else name
    with pytest.raises(UsageError) as caught:
        read_factory(reference)
    assert "(inputs, labels)" in caught.value.hint
    assert source.endswith("make")
