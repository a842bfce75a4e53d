import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from deepalign_cli.errors import DataError, DeepalignError, UsageError
from deepalign_cli.measure.losses import CausalLM, CrossEntropy, Loss, MeanSquare, UserLoss, pick_loss

ROWS = torch.zeros(4, 3)
CLASSES = torch.tensor([0, 1, 2, 1])


def _in_batches(loss, outputs, labels, size):
    totals = [loss(o, y) for o, y in zip(outputs.split(size), labels.split(size), strict=True)]
    right = None if totals[0][1] is None else sum(t[1] for t in totals)
    return float(sum(t[0] for t in totals)), right, sum(t[2] for t in totals)


@st.composite
def _batched(draw):
    count = draw(st.integers(1, 40))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    return count, draw(st.integers(1, 40)), 10 ** draw(st.floats(-3, 3))


@pytest.mark.slow
@given(_batched())
def test_cross_entropy_does_not_depend_on_the_batches(case):
    count, size, scale = case
    outputs, labels = torch.randn(count, 7) * scale, torch.randint(0, 7, (count,))
    total, right, n = _in_batches(CrossEntropy(), outputs, labels, size)
    assert n == count
    assert right == int((outputs.argmax(1) == labels).sum())
    assert total == pytest.approx(float(CrossEntropy()(outputs, labels)[0]), rel=1e-7, abs=1e-12)
    wide = functional.cross_entropy(outputs.double(), labels)
    assert total / n == pytest.approx(float(wide), rel=1e-5, abs=1e-6)


@pytest.mark.slow
@given(_batched())
def test_mean_square_does_not_depend_on_the_batches(case):
    count, size, scale = case
    outputs, labels = torch.randn(count, 3) * scale, torch.randn(count, 3)
    total, right, n = _in_batches(MeanSquare(), outputs, labels, size)
    assert right is None
    assert total == pytest.approx(float(MeanSquare()(outputs, labels)[0]), rel=1e-12)
    assert total / n == pytest.approx(float(functional.mse_loss(outputs.double(), labels.double())), rel=1e-6)


@pytest.mark.slow
@given(_batched())
def test_causal_lm_does_not_depend_on_the_batches(case):
    count, size, scale = case
    outputs, tokens = torch.randn(count, 4, 7) * scale, torch.randint(0, 7, (count, 4))
    total, right, n = _in_batches(CausalLM(), outputs, tokens, size)
    assert n == count * 3
    expected = functional.cross_entropy(outputs[:, :-1].double().flatten(0, 1), tokens[:, 1:].flatten())
    assert total / n == pytest.approx(float(expected), rel=1e-5, abs=1e-6)
    assert right == int((outputs[:, :-1].argmax(2) == tokens[:, 1:]).sum())


def test_sums_of_many_small_losses_are_exact():
    outputs = torch.tensor([[0.1, 0.0]]).expand(200_000, 2)
    labels = torch.zeros(200_000, dtype=torch.int64)
    one = float(functional.cross_entropy(outputs[:1], labels[:1]))
    total, _, n = CrossEntropy()(outputs, labels)
    assert total / n == pytest.approx(one, rel=1e-12)


def test_a_sequence_of_labels_with_some_left_out():
    outputs, labels = torch.randn(3, 5, 7), torch.randint(0, 7, (3, 5))
    labels[0, 1:] = labels[2] = -100
    total, right, n = CrossEntropy()(outputs, labels)
    kept = labels != -100
    assert n == int(kept.sum()) == 6
    assert total / n == pytest.approx(float(functional.cross_entropy(outputs[kept], labels[kept])), rel=1e-6)
    assert right == int((outputs.argmax(2) == labels)[kept].sum())


def test_a_batch_without_a_label_adds_nothing():
    assert CrossEntropy()(torch.randn(2, 3), torch.full((2,), -100)) == (0.0, 0.0, 0)


def test_whole_labels_may_be_written_with_a_point():
    outputs = torch.randn(4, 3)
    assert CrossEntropy()(outputs, CLASSES.double()) == CrossEntropy()(outputs, CLASSES)


def test_half_precision_is_summed_in_more():
    outputs = torch.randn(4, 3).half()
    assert CrossEntropy()(outputs, CLASSES) == CrossEntropy()(outputs.float(), CLASSES)
    values = torch.full((4, 3), 300.0, dtype=torch.float16)  # whose squares are too large for it
    assert MeanSquare()(values, torch.zeros(4, 3))[0] == 12 * 300.0**2


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_output_for_values_with_or_without_an_axis(shape):
    outputs, labels = torch.arange(4.0).reshape(4, 1), torch.zeros(shape)
    assert MeanSquare()(outputs, labels) == (14.0, None, 4)


def test_losses_that_are_not_finite_stay_so():
    outputs = torch.randn(4, 3)
    outputs[2, 1] = float("nan")
    assert CrossEntropy()(outputs, CLASSES)[0] != CrossEntropy()(outputs, CLASSES)[0]
    total, _, n = MeanSquare()(outputs, torch.zeros(4, 3))
    assert total != total
    assert n == 12


@pytest.mark.parametrize(
    ("loss", "outputs", "labels", "message"),
    [
        (CrossEntropy(), torch.zeros(2, 5), torch.tensor([0, 9]), "go up to 9, but the network has 5"),
        (CrossEntropy(), torch.zeros(2, 5), torch.tensor([0, -1]), "a label is -1"),
        (CrossEntropy(), torch.zeros(2, 5), torch.tensor([0.5, 1]), "needs integer labels"),
        (CrossEntropy(), torch.zeros(2, 5), torch.zeros(2, 5).long(), "2x5 do not fit labels of shape 2x5"),
        (CrossEntropy(), torch.zeros(2), torch.zeros(2).long(), "outputs of shape 2 do not fit"),
        (CrossEntropy(), torch.zeros(2, 4, 5), torch.zeros(2, 3).long(), "2x4x5 do not fit labels"),
        (MeanSquare(), torch.zeros(2, 3), torch.zeros(2), "2x3 do not fit labels of shape 2"),
        (MeanSquare(), torch.zeros(2, 3), torch.zeros(2, 1), "2x3 do not fit labels of shape 2x1"),
        (CausalLM(), torch.zeros(2, 5), torch.zeros(2, 3).long(), "2x5 do not fit tokens of shape 2x3"),
        (CausalLM(), torch.zeros(2, 1, 5), torch.zeros(2, 1).long(), "2x1x5 do not fit tokens"),
        (CausalLM(), torch.zeros(2, 3, 5), torch.full((2, 3), 7), "go up to 7, but the network has 5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(loss, outputs, labels, message):
    with pytest.raises(DataError, match=message) as caught:
        loss(outputs, labels)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("source", "inputs", "labels", "kind", "why"),
    [
        (None, ROWS, CLASSES, CrossEntropy, "the labels are integers"),
        (None, ROWS, torch.zeros(4), MeanSquare, "the labels are floating point"),
        (None, CLASSES.reshape(2, 2), None, CausalLM, "tokens and there are no labels"),
        (None, CLASSES.reshape(2, 2), torch.zeros(2).long(), CrossEntropy, "the labels are integers"),
        ("mse", ROWS, CLASSES, MeanSquare, "as requested"),
        ("mse", ROWS, None, MeanSquare, "as requested"),
        ("cross-entropy", ROWS, CLASSES.double(), CrossEntropy, "as requested"),
        ("causal-lm", CLASSES.reshape(2, 2), None, CausalLM, "as requested"),
    ],
)
def test_the_loss_that_labels_ask_for(source, inputs, labels, kind, why):
    loss, said = pick_loss(source, inputs, labels)
    assert type(loss) is kind
    assert isinstance(loss, Loss)
    assert why in said


@pytest.mark.parametrize(
    ("source", "inputs", "labels", "error", "message"),
    [
        (None, ROWS, None, DataError, "the data have no labels"),
        ("cross-entropy", ROWS, None, DataError, "cross-entropy needs labels"),
        ("hinge", ROWS, CLASSES, UsageError, "there is no loss 'hinge'"),
        ("lost.py:loss", ROWS, CLASSES, UsageError, "lost"),
    ],
)
def test_a_loss_that_cannot_be(source, inputs, labels, error, message):
    with pytest.raises(error, match=message) as caught:
        pick_loss(source, inputs, labels)
    assert caught.value.hint


def _own(tmp_path, body):
    (tmp_path / "own_loss.py").write_text(f"import torch\ndef loss(outputs, labels):\n    {body}\n")
    return pick_loss(f"{tmp_path}/own_loss.py:loss", ROWS, CLASSES)[0]


def test_a_loss_of_the_user(tmp_path):
    loss = _own(tmp_path, "return torch.nn.functional.cross_entropy(outputs, labels, label_smoothing=0.1)")
    outputs = torch.randn(4, 3)
    total, right, n = _in_batches(loss, outputs, CLASSES, 3)
    assert loss.name.endswith("own_loss.py:loss")
    expected = functional.cross_entropy(outputs, CLASSES, label_smoothing=0.1)
    assert total / n == pytest.approx(float(expected), rel=1e-6)
    assert right == int((outputs.argmax(1) == CLASSES).sum())


def test_a_loss_of_the_user_on_values_has_no_right_answers(tmp_path):
    loss = _own(tmp_path, "return (outputs - labels).abs().mean().item()")
    assert loss(torch.ones(4, 3), torch.zeros(4, 3)) == (4.0, None, 4)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("return 1 / 0", DeepalignError, "raised ZeroDivisionError"),
        ("return None", UsageError, "returned NoneType, not one number"),
        ("return outputs", UsageError, "returned Tensor, not one number"),
        ("return 'low'", UsageError, "returned str, not one number"),
    ],
)
def test_a_loss_of_the_user_that_fails(tmp_path, body, error, message):
    with pytest.raises(error, match=message) as caught:
        _own(tmp_path, body)(ROWS, CLASSES)
    assert type(caught.value) is error


def test_what_the_user_names_must_be_there(tmp_path):
    (tmp_path / "own_loss.py").write_text("loss = 3\n")
    with pytest.raises(UsageError) as caught:
        pick_loss(f"{tmp_path}/own_loss.py:loss", ROWS, CLASSES)
    assert "loss(outputs, labels)" in caught.value.hint


def test_a_loss_of_the_user_is_a_loss():
    assert isinstance(UserLoss("own.py:loss", lambda outputs, labels: 0.0), Loss)
