from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import UsageError
from deepalign_cli.models.input_shape import COUNT, example_inputs
from deepalign_cli.models.module import run_module, shapes_of
from tests import nets


def examples(model: nn.Module, text: str | None = None) -> Tensor:
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    rng = torch.Generator().manual_seed(0)
    x = example_inputs(run_module(model, shapes_of(model)), weights, rng, text)
    assert len(x) == COUNT
    return x


def found(model: nn.Module, text: str | None = None) -> tuple[int, ...]:
    x = examples(model, text)
    assert x.is_floating_point()
    assert x.unique().numel() > 0.9 * x.numel()
    return tuple(x.shape[1:])


@pytest.mark.parametrize(("text", "shape"), [("784", (784,)), ("3x32x32", (3, 32, 32)), ("3X4", (3, 4))])
def test_a_shape_that_is_said(text: str, shape: tuple[int, ...]) -> None:
    assert found(nn.Identity(), text) == shape


@pytest.mark.parametrize("text", ["", "x", "3x", "-3", "0x4", "3,4", "a", "1.5"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError, match="is not an input shape"):
        found(nn.Identity(), text)


def test_a_shape_that_does_not_go_through() -> None:
    with pytest.raises(UsageError, match="the model does not run on inputs of shape 4: "):
        found(nn.Linear(3, 2).double(), "4")


@pytest.mark.parametrize(
    "kind", ["mlp", "plain_cnn", "cnn_gap", "vgg", "resnet_basic", "transformer_prenorm"]
)
def test_a_shape_that_is_found_goes_through(kind: str) -> None:
    model = nets.ALL[kind]()[0].double().eval()
    if kind == "transformer_prenorm":  # five tokens: no usual number
        with pytest.raises(UsageError, match="on no usual input shape"):
            found(model)
        return
    shape = found(nets.ALL[kind]()[0].double().eval())

    assert model(torch.zeros(2, *shape, dtype=torch.float64)).shape == (2, 5 if kind == "mlp" else 10)


@pytest.mark.parametrize("kind", ["named_mlp", "plain_cnn", "cnn_gap", "vgg", "resnet_basic"])
def test_whatever_order_the_weights_have(kind: str) -> None:
    """As in a safetensors file, where names are sorted: here the head is the first."""
    model = nets.ALL[kind]()[0].eval()
    weights = dict(reversed(model.state_dict().items()))
    rng = torch.Generator().manual_seed(0)
    x = example_inputs(run_module(model, shapes_of(model)), weights, rng)

    assert x.shape[1:] == found(nets.ALL[kind]()[0].eval())


def test_what_it_says_of_the_first_shape_is_told() -> None:
    with pytest.raises(UsageError, match=r"no usual input shape \(on 3: .*no luck\)"):
        found(Unlucky())


class Unlucky(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no luck")


def test_a_model_without_weights_has_no_usual_shape() -> None:
    with pytest.raises(UsageError, match="on no usual input shape"):
        found(nn.ReLU())


class Tokens(nn.Module):
    """Words and their places, of which there are fewer."""

    def __init__(self, words: int = 50, places: int = 20) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, 6), nn.Embedding(places, 6)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.words(x) + self.places(torch.arange(x.shape[1]))
        return out


def test_tokens_are_tried_where_numbers_do_not_go_through() -> None:
    x = examples(Tokens())
    assert (x.dtype, x.shape) == (torch.int64, (COUNT, 8))
    assert 10 < x.max() < 20  # rows of the smaller table
    assert examples(Tokens(), "5").shape == (COUNT, 5)
    assert examples(nn.EmbeddingBag(30, 4)).max() > 10
    with pytest.raises(UsageError, match="the model does not run on inputs of shape 21: ") as caught:
        examples(Tokens(), "21")
    assert "--data" in caught.value.hint


def test_weights_narrower_than_float32_are_tried_in_float32() -> None:
    assert examples(nn.Linear(3, 2).bfloat16(), "3").dtype == torch.float32
