from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from deepalign_cli.errors import DeepalignError, MismatchError, UsageError
from deepalign_cli.evaluate.models import input_shape_of, load_model, load_weights
from tests import nets


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Linear(3, 2), nn.Dropout())\n"
    )
    return path


def test_a_model_comes_in_float64_and_evaluation_mode(file: Path) -> None:
    model = load_model(f"{file}:make")

    assert not model.training
    assert {w.dtype for w in model.state_dict().values()} == {torch.float64}


def test_a_path_may_hold_colons(tmp_path: Path, file: Path) -> None:
    odd = tmp_path / "a:b.py"
    odd.write_text(file.read_text())

    assert isinstance(load_model(f"{odd}:make"), nn.Sequential)


@pytest.mark.parametrize("problem", ["ValueError('two\\nlines')", "SystemExit(0)", "AssertionError"])
def test_what_the_factory_raises_is_one_line(problem: str, file: Path) -> None:
    file.write_text(f"def make():\n    raise {problem}\n")
    with pytest.raises(DeepalignError, match=r"raised \w+: ") as caught:
        load_model(f"{file}:make")
    assert "\n" not in caught.value.message


def test_ctrl_c_in_the_factory_is_ctrl_c(file: Path) -> None:
    file.write_text("def make():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_model(f"{file}:make")


def test_weights_go_in_whatever_their_type() -> None:
    model = nn.Linear(3, 2).double()
    weights = {"weight": torch.randn(2, 3).half(), "bias": torch.randn(2).bfloat16()}
    load_weights(model, weights)

    assert model.weight.equal(weights["weight"].double())
    assert model.bias.equal(weights["bias"].double())


def test_what_does_not_fit_is_listed_and_counted() -> None:
    weights = {"weight": torch.randn(2, 4), "other": torch.randn(2)}
    with pytest.raises(MismatchError) as caught:
        load_weights(nn.Linear(3, 2), weights)
    assert "'weight' ((2, 3) in the model, (2, 4) in the file)" in caught.value.message
    assert "'bias' ((2,) in the model, absent in the file)" in caught.value.message
    assert "'other' (absent in the model, (2,) in the file)" in caught.value.message

    with pytest.raises(MismatchError, match="and 4 more"):
        load_weights(nets.mlp(), {})


@pytest.mark.parametrize(("text", "shape"), [("784", (784,)), ("3x32x32", (3, 32, 32)), ("3X4", (3, 4))])
def test_a_shape_that_is_said(text: str, shape: tuple[int, ...]) -> None:
    assert input_shape_of(nn.Identity(), text) == shape


@pytest.mark.parametrize("text", ["", "x", "3x", "-3", "0x4", "3,4", "a", "1.5"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match="is not an input shape"):
        input_shape_of(nn.Identity(), text)


def test_a_shape_that_does_not_go_through() -> None:
    with pytest.raises(UsageError, match="an input of shape 4 does not go through the model: "):
        input_shape_of(nn.Linear(3, 2).double(), "4")


@pytest.mark.parametrize(
    "kind", ["mlp", "plain_cnn", "cnn_gap", "vgg", "resnet_basic", "transformer_prenorm"]
)
def test_a_shape_that_is_found_goes_through(kind: str) -> None:
    model = nets.ALL[kind]()[0].double().eval()
    if kind == "transformer_prenorm":  # five tokens: no usual number
        with pytest.raises(UsageError, match="no usual input shape"):
            input_shape_of(model)
        return
    shape = input_shape_of(model)

    assert model(torch.zeros(2, *shape, dtype=torch.float64)).shape == (2, 5 if kind == "mlp" else 10)


def test_a_model_without_weights_has_no_usual_shape() -> None:
    with pytest.raises(UsageError, match="no usual input shape"):
        input_shape_of(nn.ReLU())
