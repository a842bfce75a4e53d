from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import deepalign_cli
from deepalign_cli.checkpoint import open_checkpoint
from deepalign_cli.checkpoint.keys import PREPARATION_KEY
from deepalign_cli.data.preparation import Preparation
from deepalign_cli.errors import DataError, DeepalignError, MismatchError, UsageError
from deepalign_cli.models.designed import design_metadata
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.lookup import network_for
from tests import nets
from tests.models.builders import generic, inputs, same, stored
from tests.models.test_exported import exported
from tests.models.test_hugging_face import LLAMA, folder

SOURCE = """
from torch import nn

def make(width=16, activation="tanh"):
    act = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]
    return nn.Sequential(nn.Linear(12, width), act(), nn.Linear(width, 5))
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "own_net.py"
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("module", [True, False])
def test_a_users_factory_is_run_with_its_arguments(module: bool, file: Path, tmp_path: Path) -> None:
    net, weights = generic(nets.mlp((12, 7, 5)))
    source = "own_net:make" if module else f"{file}:make"
    args = {"width": "7", "activation": "relu"}
    network = network_for(stored(tmp_path, weights), source, args=args)
    assert same(network, weights, net, inputs((12,)))
    assert network.says == f"Sequential of {source} with width=7 activation=relu"
    assert (network.input_shape, network.preparation) == (None, None)


def test_a_source_goes_before_what_the_checkpoint_says(file: Path, tmp_path: Path) -> None:
    net, weights = generic(nets.mlp((12, 16, 5), "tanh"))
    checkpoint = stored(tmp_path, weights, {"activation": "relu", "deepalign.design": "{}"})
    assert same(network_for(checkpoint, f"{file}:make", activation="tanh"), weights, net, inputs((12,)))


def test_a_factory_of_another_network_has_its_differences_listed(file: Path, tmp_path: Path) -> None:
    _, weights = generic(nets.mlp((12, 7, 5)))
    with pytest.raises(MismatchError) as caught:
        network_for(stored(tmp_path, weights), f"{file}:make")
    assert "'0.weight' ((16, 12) in the model, (7, 12) in the file)" in caught.value.message
    assert caught.value.exit_code == 3


def test_a_factory_that_raises_is_one_sentence(file: Path, tmp_path: Path) -> None:
    checkpoint = stored(tmp_path, nets.mlp().state_dict())
    with pytest.raises(DeepalignError, match=r"own_net\.py:make' raised KeyError: 'sin'") as caught:
        network_for(checkpoint, f"{file}:make", args={"activation": "sin"})
    assert caught.value.exit_code == 1


def test_a_wrong_input_shape_is_one_sentence(file: Path, tmp_path: Path) -> None:
    _, weights = generic(nets.mlp((12, 16, 5)))
    network = network_for(stored(tmp_path, weights), f"{file}:make")
    with pytest.raises(DataError, match=r"does not run on an input of 3x8x8 \(float64\)"):
        network.run(weights, inputs((3, 8, 8)))


@pytest.mark.slow
def test_an_exported_program(tmp_path: Path) -> None:
    net, shape = nets.ALL["cnn_gap"]()
    path = exported(tmp_path / "net.pt2", net.eval(), shape)
    net, weights = generic(net)
    network = network_for(stored(tmp_path, weights), str(path))
    assert same(network, weights, net, inputs(shape))
    assert network.says == "the exported program net.pt2"


@pytest.mark.parametrize("name", ["", "config.json"])
def test_a_folder_with_a_config(tmp_path: Path, name: str) -> None:
    from deepalign_cli.models.hugging_face import load_folder

    model = load_folder(folder(tmp_path, LLAMA))
    weights = {n: w.clone() for n, w in model.state_dict().items()}
    tokens = torch.randint(50, (2, 4))
    network = network_for(stored(tmp_path, weights), str(tmp_path / name))
    with torch.no_grad():
        assert torch.allclose(network.run(weights, tokens), model(tokens).logits)
    assert network.says == f"LlamaForCausalLM of {tmp_path / 'config.json'}"


def test_half_weights_run_in_float32(tmp_path: Path) -> None:
    _, weights = generic(nets.mlp())
    half = {n: w.half() for n, w in weights.items()}
    network = network_for(stored(tmp_path, half), options={"activation": "relu"})
    wide = {n: w.float() for n, w in half.items()}
    x = inputs((12,))
    assert network.run(half, x).dtype == torch.float32
    assert network.run(half, x).equal(network.run(wide, x))


@pytest.mark.parametrize(
    ("source", "args", "options", "named"),
    [
        ("own_net.py:make", {}, {"activation": "relu"}, "--design .* --model"),
        (None, {"width": "3"}, {}, "--model-arg needs a factory"),
        (".", {"width": "3"}, {}, "--model-arg needs a factory"),
        ("a:b.pt2", {"width": "3"}, {}, "--model-arg needs a factory"),
        ("own_net.py", {}, {}, "does not name a Python file and a factory"),
        ("nowhere", {}, {}, "does not name a Python file and a factory"),
        ("nowhere/", {}, {}, "does not name a Python file and a factory"),
        ("nowhere.pt2", {}, {}, "no exported program"),
        (".", {}, {}, "no config.json"),
    ],
)
def test_what_cannot_be_meant(
    source: str | None, args: dict[str, str], options: dict[str, str], named: str, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        network_for(stored(tmp_path, nets.mlp().state_dict()), source, args=args, options=options)
    assert caught.value.hint


def test_the_metadata_say_how_inputs_are_prepared(tmp_path: Path) -> None:
    net, weights = generic(nets.mlp())
    preparation = Preparation(28, True, (0.5,), (0.25,))
    checkpoint = stored(tmp_path, weights, {PREPARATION_KEY: preparation.to_json(), "activation": "relu"})
    network = network_for(checkpoint)
    assert network.preparation == preparation
    assert same(network, weights, net, inputs((12,)))
    with pytest.raises(DataError, match=r"the metadata of .*net\.safetensors"):
        network_for(stored(tmp_path, weights, {PREPARATION_KEY: "3", "activation": "relu"}))


def test_the_shipped_networks_say_what_they_are() -> None:
    shipped = Path(deepalign_cli.__file__).parent / "demo"
    digits = open_checkpoint(shipped / "digits.safetensors")
    for name in ("a", "b"):
        checkpoint = open_checkpoint(shipped / f"{name}.safetensors")
        network = network_for(checkpoint)
        assert network.says.startswith("mlp sizes=784,128,128,128,10 activation=relu")
        assert network.preparation is not None
        mean, std = (float(digits.metadata[key]) for key in ("mean", "std"))
        assert json.loads(network.preparation.to_json()) == {
            "side": 28, "grey": True, "mean": [mean], "std": [std],
        }  # fmt: skip
        x = network.preparation(digits["images"])
        right = network.run(dict(checkpoint), x).argmax(1) == digits["labels"]
        assert float(right.float().mean()) > 0.97
        square = network.preparation(digits["images"].reshape(-1, 28, 28))
        assert torch.allclose(network.run(dict(checkpoint), square), network.run(dict(checkpoint), x))


def test_the_same_design_may_be_read_in_three_ways(tmp_path: Path) -> None:
    design = MLP((12, 16, 5), "tanh")

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(12, 16), nn.Linear(16, 5)

    _, weights = generic(Own())
    x = inputs((12,))
    expected = design(weights, x)
    written = network_for(stored(tmp_path, weights, design_metadata(design)))
    read = network_for(stored(tmp_path, weights), activation="tanh")
    assert written.run(weights, x).equal(expected)
    assert torch.allclose(read.run(weights, x), expected, rtol=0, atol=1e-12)
