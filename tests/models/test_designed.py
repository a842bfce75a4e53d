from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deepalign_cli.checkpoint.keys import DESIGN_KEY
from deepalign_cli.errors import CheckpointError, DeepalignError, MismatchError, UsageError
from deepalign_cli.models.designed import activation_of, design_metadata
from deepalign_cli.models.designs import Design, config_of, design_of, reads_tokens
from deepalign_cli.models.designs.cnn import CNN
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from deepalign_cli.models.lookup import network_for
from tests.models.builders import stored
from tests.models.designs.builders import ALL, inputs_of, weights_of


@pytest.mark.parametrize("kind", ALL)
def test_the_metadata_say_what_computes_with_the_weights(kind: str, tmp_path: Path) -> None:
    design = ALL[kind]
    weights, x = weights_of(design), inputs_of(design)
    network = network_for(stored(tmp_path, weights, design_metadata(design)))
    assert network.run(weights, x).equal(design(weights, x))
    assert network.run(weights, x.flatten(1)).equal(design(weights, x))
    assert network.input_shape == (None if reads_tokens(design) else design.input_shape)
    assert network.says.endswith(", from the checkpoint's metadata")


def test_its_words_list_its_options(tmp_path: Path) -> None:
    design = CNN((1, 4, 6), 8, average=True, pools=())
    network = network_for(stored(tmp_path, weights_of(design), design_metadata(design)))
    assert network.says == (
        "cnn channels=1,4,6 size=8 classes=10 norm=false average=true pools=none activation=relu "
        "separable=false stride=1, from the checkpoint's metadata"
    )


def test_counters_that_pytorch_adds_are_not_missed(tmp_path: Path) -> None:
    design = ResNet((4, 6), size=8)
    weights: dict[str, Tensor] = weights_of(design)
    counted = {**weights, "bn1.num_batches_tracked": torch.tensor(3)}
    x = inputs_of(design)
    network = network_for(stored(tmp_path, counted, design_metadata(design)))
    assert network.run(counted, x).equal(design(weights, x))


def test_options_change_it_or_describe_it_in_full(tmp_path: Path) -> None:
    design = MLP((12, 16, 5), "tanh")
    weights, x = weights_of(design), inputs_of(design)
    checkpoint = stored(tmp_path, weights, design_metadata(design))
    changed = network_for(checkpoint, options={"activation": "gelu"})
    assert changed.run(weights, x).equal(MLP((12, 16, 5), "gelu")(weights, x))

    told = network_for(
        stored(tmp_path, weights), options={"kind": "mlp", "sizes": "12,16,5", "activation": "tanh"}
    )
    assert told.run(weights, x).equal(design(weights, x))
    assert told.says == "mlp sizes=12,16,5 activation=tanh, from --design"


def test_a_lone_number_is_a_list_where_one_belongs(tmp_path: Path) -> None:
    design = CNN((1, 4, 6), 8, pools=(2,))
    weights, x = weights_of(design), inputs_of(design)
    checkpoint = stored(tmp_path, weights, design_metadata(CNN((1, 4, 6), 8, pools=(1,))))
    assert network_for(checkpoint, options={"pools": "2"}).run(weights, x).equal(design(weights, x))


@pytest.mark.parametrize(
    ("options", "activation", "named"),
    [
        ({"kind": "perceptron"}, None, "no design 'perceptron'"),
        ({"colour": "1"}, None, "the design 'mlp' has no option 'colour'"),
        ({"sizes": "12,x"}, None, "sizes = "),
        ({"sizes": "12,-1"}, None, "sizes = "),
        ({"activation": "rulu"}, None, "no activation 'rulu'"),
        ({}, "relu", "--activation says relu, but the checkpoint's metadata: activation=tanh"),
        ({"activation": "gelu"}, "relu", "--activation says relu, but --design activation=gelu"),
    ],
)
def test_what_cannot_be_meant(
    options: dict[str, str], activation: str | None, named: str, tmp_path: Path
) -> None:
    design = MLP((12, 16, 5), "tanh")
    checkpoint = stored(tmp_path, weights_of(design), design_metadata(design))
    with pytest.raises(UsageError, match=named):
        network_for(checkpoint, options=options, activation=activation)


def test_another_networks_design_is_told(tmp_path: Path) -> None:
    weights = weights_of(MLP((12, 16, 5)))
    with pytest.raises(MismatchError) as caught:
        network_for(stored(tmp_path, weights, design_metadata(MLP((12, 17, 5)))))
    assert caught.value.message.startswith(
        "the design does not fit the checkpoint: 'fc1.weight' ((17, 12) in the design, (16, 12) in the file)"
    )


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "3", "null", "[]", '"mlp"', "{}", '{"kind": 3}', '{"kind": "mlp"}',
        '{"kind": "mlp", "sizes": "12"}', '{"kind": "mlp", "sizes": [12, "a"]}',
        '{"kind": "mlp", "sizes": [12, true]}', '{"kind": "mlp", "sizes": [12, 1.5]}',
        '{"kind": "mlp", "sizes": []}', '{"kind": "mlp", "sizes": [12, 16, 5], "activation": ["relu"]}',
        '{"kind": "mlp", "sizes": [12, 16, 5], "activation": "__import__"}',
        '{"kind": "mlp", "sizes": [12, 16, 5], "sizes": [1]}',
        '{"kind": "mlp", "sizes": [12, 1000000000000, 5]}',
        '{"kind": "mlp", "sizes": [9223372036854775807, 9223372036854775807, 5]}',
        '{"kind": "mlp", "sizes": [' + "1," * 10_000 + "1]}",
        '{"kind": "resnet", "widths": [4, 6], "blocks": 1000000000}',
        '{"kind": "transformer", "width": 4, "heads": 2, "hidden": 3, "layers": 1000000000}',
        '{"kind": "transformer", "width": 4, "heads": 3, "hidden": 3}',
        '{"kind": "siren", "w0": NaN}', '{"kind": "siren", "w0": 1e999}', '{"kind": "siren", "w0": 0}',
        '{"kind": "siren", "sizes": [2]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_a_stranger_writes_is_refused_at_once(text: str, tmp_path: Path) -> None:
    checkpoint = stored(tmp_path, weights_of(MLP((12, 16, 5))), {DESIGN_KEY: text})
    started = time.perf_counter()
    with pytest.raises(DeepalignError) as caught:
        network_for(checkpoint)
    assert time.perf_counter() - started < 1
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500


def test_a_broken_design_names_the_file(tmp_path: Path) -> None:
    for text in ("{", "3"):
        with pytest.raises(CheckpointError, match=r"net\.safetensors: the metadata deepalign\.design"):
            network_for(stored(tmp_path, weights_of(MLP((12, 16, 5))), {DESIGN_KEY: text}))


@pytest.mark.parametrize(
    ("config", "activation"),
    [
        ({"kind": "mlp", "sizes": [2, 2], "activation": "gelu"}, "gelu"),
        ({"kind": "siren"}, "sin"),
        ({"kind": "resnet", "widths": [2]}, "relu"),
        ({"kind": "recurrent", "units": 2}, "tanh"),
        ({"kind": "transformer", "width": 2, "heads": 1, "hidden": 2}, "gelu"),
        ({"kind": "decoder", "width": 2, "heads": 1, "hidden": 2, "feed_forward": "swiglu"}, "silu"),
    ],
)
def test_every_design_has_an_activation(config: dict[str, Any], activation: str) -> None:
    design: Design = design_of(config)
    assert activation_of(design) == activation
    assert json.loads(design_metadata(design)[DESIGN_KEY]) == config_of(design)
