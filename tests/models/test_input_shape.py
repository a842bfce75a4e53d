from __future__ import annotations

import pytest
import torch
from torch import nn

from deepalign_cli.errors import UsageError
from deepalign_cli.models.input_shape import input_shape_of
from deepalign_cli.models.module import run_module, shapes_of
from tests import nets


def found(model: nn.Module, text: str | None = None) -> tuple[int, ...]:
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    return input_shape_of(run_module(model, shapes_of(model)), weights, text)


@pytest.mark.parametrize(("text", "shape"), [("784", (784,)), ("3x32x32", (3, 32, 32)), ("3X4", (3, 4))])
def test_a_shape_that_is_said(text: str, shape: tuple[int, ...]) -> None:
    assert found(nn.Identity(), text) == shape


@pytest.mark.parametrize("text", ["", "x", "3x", "-3", "0x4", "3,4", "a", "1.5"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match="is not an input shape"):
        found(nn.Identity(), text)


def test_a_shape_that_does_not_go_through() -> None:
    with pytest.raises(UsageError, match="an input of shape 4 does not go through the model: "):
        found(nn.Linear(3, 2).double(), "4")


@pytest.mark.parametrize(
    "kind", ["mlp", "plain_cnn", "cnn_gap", "vgg", "resnet_basic", "transformer_prenorm"]
)
def test_a_shape_that_is_found_goes_through(kind: str) -> None:
    model = nets.ALL[kind]()[0].double().eval()
    if kind == "transformer_prenorm":  # five tokens: no usual number
        with pytest.raises(UsageError, match="no usual input shape"):
            found(model)
        return
    shape = found(nets.ALL[kind]()[0].double().eval())

    assert model(torch.zeros(2, *shape, dtype=torch.float64)).shape == (2, 5 if kind == "mlp" else 10)


def test_a_model_without_weights_has_no_usual_shape() -> None:
    with pytest.raises(UsageError, match="no usual input shape"):
        found(nn.ReLU())
