import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from deepalign_cli.data.preparation import Preparation, parse_normalise
from deepalign_cli.data.sources import Wanted, load_data
from deepalign_cli.errors import DataError, UsageError
from deepalign_cli.train.tasks import Task, load_examples


def _bytes(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("shape", "task"),
    [
        ((9, 9), Task("set", side=9, images=30, test=20)),
        ((9, 9), Task("set", side=4, images=30, test=20)),
        ((8, 8, 3), Task("set", side=4, grey=False, images=30, test=20)),
        ((8, 8, 3), Task("set", side=8, grey=True, images=30, test=20)),
    ],
)
def test_prepares_as_the_zoos_are_trained(tmp_path, shape, task):
    arrays = {f"{s}_images": _bytes(n, *shape).numpy() for s, n in (("train", 30), ("test", 20))}
    labels = {f"{s}_labels": np.arange(n) % 7 for s, n in (("train", 30), ("test", 20))}
    np.savez(tmp_path / "set.npz", **arrays, **labels)
    examples = load_examples(task, tmp_path)
    raw = Preparation(task.side, task.grey)(torch.from_numpy(arrays["train_images"]))
    declared = Preparation(task.side, task.grey, (float(raw.mean()),), (float(raw.std()),))
    data = load_data(str(tmp_path / "set.npz"), declared=declared)
    ((x, y),) = data.batches(100)
    torch.testing.assert_close(x, examples.test_x, atol=1e-6, rtol=0)
    assert torch.equal(y, examples.test_y)
    ((x, _),) = data.training().batches(100)
    torch.testing.assert_close(x, examples.train_x, atol=1e-6, rtol=0)


def test_standard_is_that_of_all_training_pixels(tmp_path):
    train, test = _bytes(40, 6, 6), _bytes(10, 6, 6)
    np.savez(tmp_path / "set.npz", train_images=train.numpy(), test_images=test.numpy())
    found = load_data(str(tmp_path / "set.npz"), wanted=Wanted("standard"), limit=3).preparation
    assert found.mean == (pytest.approx(float(train.double().mean()) / 255, abs=1e-7),)
    assert found.std == (pytest.approx(float(train.double().std(correction=0)) / 255, abs=1e-7),)


@pytest.mark.parametrize(
    ("stored", "prepared"),
    [
        ((2, 6, 5), (2, 1, 6, 5)),
        ((2, 6, 5, 1), (2, 1, 6, 5)),
        ((2, 6, 5, 3), (2, 3, 6, 5)),
        ((2, 3, 6, 5), (2, 3, 6, 5)),
        ((2, 4, 4, 3), (2, 3, 4, 4)),  # a small image in colours, not four channels
        ((2, 3, 4, 4), (2, 3, 4, 4)),
        ((2, 30), (2, 30)),
    ],
)
def test_channels_come_first(stored, prepared):
    assert Preparation()(_bytes(*stored)).shape == prepared


def test_pixels_become_brightness():
    x = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    torch.testing.assert_close(Preparation()(x), torch.tensor([[0, 0.2, 1]]))
    torch.testing.assert_close(Preparation(mean=(0.2,), std=(0.5,))(x), torch.tensor([[-0.4, 0, 1.6]]))


def test_normalises_each_channel():
    x = _bytes(3, 4, 5, 3)
    prepared = Preparation(mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))(x)
    for c in range(3):
        torch.testing.assert_close(prepared[:, c], (x[..., c] / 255 - (c + 1) / 10) / 2**c)


def test_numbers_with_a_point_stay_as_they_are_unless_told():
    x = torch.randn(2, 6, 5)
    assert torch.equal(Preparation()(x), x)
    pooled = Preparation(side=2)(x)
    torch.testing.assert_close(pooled, functional.adaptive_avg_pool2d(x.unsqueeze(1), 2))
    assert Preparation()(x.double()).dtype == torch.float64
    assert Preparation()(x.half()).dtype == torch.float32


def test_tokens_become_int64_and_nothing_else():
    x = torch.tensor([[1, 2], [3, 4]], dtype=torch.int32)
    found = Preparation(mean=(1.0,), std=(2.0,))(x)
    assert found.dtype == torch.int64
    assert torch.equal(found, x.long())


@pytest.mark.parametrize(
    ("preparation", "x", "message"),
    [
        (Preparation(side=7), torch.zeros(2, 6, 9, dtype=torch.uint8), "6x9, smaller than side 7"),
        (Preparation(mean=(0.0,) * 3, std=(1.0,) * 3), torch.zeros(2, 1, 4, 4), "1 channel, but mean has 3"),
        (Preparation(mean=(0.0,) * 2, std=(1.0,) * 2), torch.zeros(2, 4, 4, 3), "3 channels, but mean has 2"),
        (Preparation(), torch.zeros(2, 4, 4, dtype=torch.int64), "4x4 integers"),
        (Preparation(), torch.zeros(2, 4, dtype=torch.complex64), "complex"),
    ],
)
def test_what_does_not_fit_is_refused(preparation, x, message):
    with pytest.raises(DataError, match=message):
        preparation(x)


_NUMBERS = st.floats(-1e6, 1e6)


@pytest.mark.slow
@given(
    st.none() | st.integers(1, 512),
    st.booleans(),
    st.lists(st.tuples(_NUMBERS, st.floats(1e-6, 1e6)), max_size=4),
)
def test_json_round_trip(side, grey, channels):
    preparation = Preparation(side, grey, tuple(m for m, _ in channels), tuple(s for _, s in channels))
    assert Preparation.from_json(preparation.to_json()) == preparation


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "null", '{"size": 3}', '{"side": 0}', '{"side": true}', '{"side": 2.5}', '{"grey": 1}',
        '{"mean": [1]}', '{"mean": 1, "std": 1}', '{"mean": "12", "std": "34"}', '{"mean": [0], "std": [0]}',
        '{"mean": [NaN], "std": [1]}', '{"mean": [0], "std": [-1]}', '{"mean": [true], "std": [true]}',
        '{"mean": [1' + "0" * 400 + '], "std": [1]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_other_json_is_refused_in_a_sentence(text):
    with pytest.raises(DataError, match="does not describe how images are prepared") as caught:
        Preparation.from_json(text, "'a.safetensors'")
    assert caught.value.message.startswith("'a.safetensors'")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ("none", (), ()),
        ("unit", (), ()),
        ("0.1307,0.3081", (0.1307,), (0.3081,)),
        ("0.5/0.25", (0.5,), (0.25,)),
        ("0.49, 0.48, 0.45/0.2,0.2,0.3", (0.49, 0.48, 0.45), (0.2, 0.2, 0.3)),
    ],
)
def test_parse_normalise(text, mean, std):
    base = Preparation(8, True, (9.0,), (9.0,))
    assert parse_normalise(text, base) == Preparation(8, True, mean, std)


@pytest.mark.parametrize(
    "text", ["", "half", "1", "1,2,3", "1,0", "1,-2", "nan,1", "1,inf", "1,2/3", "1/2/3", "/"]
)
def test_what_is_no_normalisation_is_refused(text):
    with pytest.raises(UsageError, match="--normalise cannot be") as caught:
        parse_normalise(text, Preparation())
    assert "0.1307,0.3081" in caught.value.hint
