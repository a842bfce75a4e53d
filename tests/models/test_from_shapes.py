from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import AmbiguousError, DeepalignError, SpecError, UsageError
from deepalign_cli.models.lookup import network_for
from tests import nets
from tests.models.builders import generic, inputs, same, stored

CNN = {"activation": "relu", "padding": "1", "pools": "all"}
OPTIONS: dict[str, dict[str, str]] = {
    "mlp": {"activation": "relu"},
    "mlp_leaky_relu": {"activation": "leaky_relu"},
    "mlp_gelu": {"activation": "gelu"},
    "named_mlp": {"activation": "relu"},
    "mlp_batchnorm": {"activation": "relu"},
    "mlp_layernorm": {"activation": "relu"},
    "tanh_mlp": {"activation": "tanh"},
    "siren": {"activation": "sin", "w0": "3"},
    "plain_cnn": CNN,
    "plain_cnn_bn": {**CNN, "padding": "same", "pools": "1,2"},
    "cnn_gap": {**CNN, "padding": "1,1,1"},
    "vgg": {},
    "vgg_bn": {},
    "resnet_basic": {},
    "resnet_bottleneck": {},
    "cifar_resnet": {},
    "preact_resnet": {},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_it_is_the_module_that_the_names_are_of(kind: str, tmp_path: Path) -> None:
    module, shape = nets.ALL[kind]()
    module, weights = generic(module)
    network = network_for(stored(tmp_path, weights), options=OPTIONS[kind])
    assert same(network, weights, module, inputs(shape))
    assert network.says.endswith("from names and shapes")
    assert network.input_shape in (None, shape)


@pytest.mark.parametrize(
    ("kind", "given", "error", "named"),
    [
        ("mlp", {}, SpecError, "names and shapes of an MLP do not tell its activation"),
        ("mlp", {"activation": "rulu"}, UsageError, "activation=rulu does not work: it must be one of relu"),
        ("mlp", {"activation": "relu", "padding": "1"}, UsageError, "an MLP has no option 'padding'"),
        ("siren", {"activation": "sin"}, SpecError, "do not tell its w0"),
        ("siren", {"activation": "sin", "w0": "-1"}, UsageError, "w0=-1 does not work"),
        ("plain_cnn", {}, SpecError, "a plain CNN do not tell its activation, padding, pools"),
        ("plain_cnn", {**CNN, "pools": "3"}, UsageError, "pools=3 does not work: there are 2 conv"),
        ("plain_cnn", {**CNN, "padding": "1,1,1"}, UsageError, "does not work: there are 2 layers"),
        (
            "plain_cnn",
            {**CNN, "head": "mean"},
            SpecError,
            "'fc1' reads 16 numbers a channel, which does not fit head=mean",
        ),
        ("plain_cnn", {**CNN, "size": "24"}, SpecError, "24 x 24 pixels do not give the 16 numbers"),
        ("resnet_basic", {"strides": "1,2"}, SpecError, "2 strides for 4 stages"),
        ("resnet_basic", {"pools": "1"}, UsageError, "a ResNet has no option 'pools'"),
        ("resnet_option_a", {}, AmbiguousError, "widens from 8 to 16"),
        ("vision_transformer", {}, SpecError, "cannot be recognised from its tensor names and shapes"),
    ],
)
def test_what_is_not_told_or_cannot_be_meant(
    kind: str, given: dict[str, str], error: type[DeepalignError], named: str, tmp_path: Path
) -> None:
    weights = nets.ALL[kind]()[0].state_dict()
    with pytest.raises(error, match=named) as caught:
        network_for(stored(tmp_path, weights), options=given)
    assert caught.value.hint
    if error is AmbiguousError or "is not told" in named:
        assert "--model file.py:factory" in caught.value.hint


def test_the_activation_may_be_said_elsewhere(tmp_path: Path) -> None:
    module, weights = generic(nets.mlp(activation="tanh"))
    x = inputs((12,))
    assert same(network_for(stored(tmp_path, weights), activation="tanh"), weights, module, x)
    checkpoint = stored(tmp_path, weights, {"activation": "tanh"})
    assert same(network_for(checkpoint), weights, module, x)
    assert not same(network_for(checkpoint, options={"activation": "relu"}), weights, module, x)
    with pytest.raises(SpecError, match="activation"):
        network_for(stored(tmp_path, weights, {"activation": "unknown"}))
    with pytest.raises(UsageError, match="--activation says tanh, but --design activation=relu"):
        network_for(checkpoint, options={"activation": "relu"}, activation="tanh")


def test_an_mlp_of_any_names_in_any_order(tmp_path: Path) -> None:
    module, weights = generic(nets.mlp((6, 9, 7, 4)))
    names = {"0": "encoder.proj", "2": "middle", "4": "out.last"}
    other = {f"{names[n.partition('.')[0]]}.{n.partition('.')[2]}": w for n, w in weights.items()}
    network = network_for(stored(tmp_path, dict(reversed(other.items()))), options={"activation": "relu"})
    assert same(network, other, module, inputs((6,)))
    assert network.input_shape == (6,)
    assert network.says == "an MLP 6-9-7-4, relu, from names and shapes"


def test_weights_that_are_stored_in_out(tmp_path: Path) -> None:
    module, weights = generic(nets.mlp((6, 9, 4)))
    other = {"w1": weights["0.weight"].T, "b1": weights["0.bias"]}
    other |= {"w2": weights["2.weight"].T, "b2": weights["2.bias"]}
    other = {name: w.contiguous() for name, w in other.items()}
    network = network_for(stored(tmp_path, other), options={"activation": "relu"})
    assert same(network, other, module, inputs((6,)))


def test_images_are_flattened_for_an_mlp(tmp_path: Path) -> None:
    _, weights = generic(nets.mlp())
    network = network_for(stored(tmp_path, weights), options={"activation": "relu"})
    x = inputs((12,))
    assert network.run(weights, x.reshape(5, 1, 3, 4)).equal(network.run(weights, x))


def test_a_linear_classifier_has_no_activation_to_tell(tmp_path: Path) -> None:
    module, weights = generic(nn.Sequential(nn.Linear(6, 3)))
    network = network_for(stored(tmp_path, weights))
    assert same(network, weights, module, inputs((6,)))
    assert network.says == "a linear layer 6-3, from names and shapes"


def test_a_siren_may_begin_with_other_sines(tmp_path: Path) -> None:
    class Siren(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nets.mlp((2, 8, 8, 1))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.sin(5 * self.net[0](x))
            out: Tensor = self.net[4](torch.sin(2 * self.net[2](x)))
            return out

    module, weights = generic(Siren())
    options = {"activation": "sin", "w0": "2", "first_w0": "5"}
    network = network_for(stored(tmp_path, weights), options=options)
    assert same(network, weights, module, inputs((2,)))
    assert network.says == "a SIREN 2-8-8-1, sin(2 z), at first sin(5 z), from names and shapes"


def test_the_slope_of_leaky_relu(tmp_path: Path) -> None:
    module, weights = generic(nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU(0.2), nn.Linear(8, 3)))
    options = {"activation": "leaky_relu", "slope": "0.2"}
    assert same(network_for(stored(tmp_path, weights), options=options), weights, module, inputs((6,)))
