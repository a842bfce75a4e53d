from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from deepalign_cli.errors import UsageError
from deepalign_cli.models.designs import DESIGNS, Design, config_of, design_of, reads_tokens
from deepalign_cli.models.designs.mlp import MLP
from deepalign_cli.models.designs.resnet import ResNet
from tests.models.designs.builders import ALL, inputs_of, symmetry_of, weights_of
from tests.symmetry.builders import seeded

each = pytest.mark.parametrize("design", ALL.values(), ids=ALL.keys())


@each
def test_a_config_makes_the_same_design_even_through_json(design: Design) -> None:
    config = config_of(design)
    assert DESIGNS[config["kind"]] is type(design)
    assert design_of(config) == design
    assert design_of(json.loads(json.dumps(config))) == design
    assert hash(design_of(json.loads(json.dumps(config)))) == hash(design)


def test_every_kind_is_tested() -> None:
    assert {type(design) for design in ALL.values()} == set(DESIGNS.values())


def test_options_that_are_left_out_have_their_usual_values() -> None:
    assert design_of({"kind": "resnet", "widths": [4, 8]}) == ResNet((4, 8))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"kind": "perceptron", "sizes": [2, 2]}, "perceptron"),
        ({"sizes": [2, 2]}, "None"),
        ({"kind": "mlp"}, "sizes"),
        ({"kind": "mlp", "sizes": [2, 2], "colour": 1}, "colour"),
        ({"kind": "transformer", "width": 4, "heads": 2}, "hidden"),
        ({"kind": "transformer", "width": 4, "heads": 3, "hidden": 4}, "heads do not divide"),
        ({"kind": "transformer", "width": 4, "heads": 2, "hidden": 4, "size": 15}, "patch does not divide"),
        (
            {"kind": "transformer", "width": 4, "heads": 2, "hidden": 4, "norm": "batch"},
            "norm must be one of",
        ),
        ({"kind": "decoder", "width": 6, "heads": 2, "hidden": 4, "positions": "rotary"}, "even width"),
        ({"kind": "decoder", "width": 6, "heads": 2, "hidden": 4, "queries": 3}, "queries do not divide"),
        (
            {"kind": "decoder", "width": 6, "heads": 2, "hidden": 4, "feed_forward": "relu"},
            "gelu, swiglu, not",
        ),
        ({"kind": "mlp", "sizes": []}, "no sizes"),
        ({"kind": "mlp", "sizes": "12"}, "sizes = '12'"),
        ({"kind": "mlp", "sizes": [2, True]}, "sizes = "),
        ({"kind": "mlp", "sizes": [2, 0]}, "sizes = "),
        ({"kind": "mlp", "sizes": [2, 2], "activation": 3}, "activation = 3"),
        ({"kind": "mlp", "sizes": [2, 2], "activation": "rulu"}, "rulu"),
        ({"kind": "cnn", "channels": [], "size": 4}, "no channels"),
        ({"kind": "cnn", "channels": [1, 2], "size": 4, "norm": 1}, "norm = 1"),
        ({"kind": "resnet", "widths": []}, "no widths"),
        ({"kind": "resnet", "widths": [2], "blocks": -1}, "blocks = -1"),
        ({"kind": "siren", "w0": 0.0}, "w0 = 0"),
        ({"kind": "siren", "w0": float("nan")}, "w0 = nan"),
        ({"kind": "siren", "w0": "30"}, "w0 = '30'"),
    ],
)
def test_what_is_no_design_is_refused_by_name(config: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        design_of(config)


@each
def test_fresh_weights_follow_the_generator_alone(design: Design) -> None:
    first, again, other = (design.init(seeded(seed)) for seed in (1, 1, 2))
    assert list(first) == list(again) == list(other)
    assert all(torch.equal(first[n], again[n]) for n in first)
    random = [n for n, w in first.items() if float(w.float().std(correction=0)) > 0]
    assert random
    assert not any(torch.equal(first[n], other[n]) for n in random)
    assert len({w.data_ptr() for w in first.values()}) == len(first)


@each
def test_outputs_are_finite_and_the_weights_stay(design: Design) -> None:
    weights = weights_of(design)
    kept = {n: w.clone() for n, w in weights.items()}
    out = design(weights, inputs_of(design))
    assert out.ndim == (3 if reads_tokens(design) else 2)
    assert len(out) == 5
    assert out.isfinite().all()
    design(weights, inputs_of(design), {})
    assert all(torch.equal(weights[n], kept[n]) for n in kept)


@each
def test_its_symmetry_leaves_its_outputs_as_they_are(design: Design) -> None:
    symmetry, weights, x = symmetry_of(design), weights_of(design), inputs_of(design)
    g = symmetry.random(seeded(4))
    moved = symmetry.apply(g, weights)
    assert all(g.moved(group) for group, size in symmetry.sizes.items() if size > 3)
    assert torch.allclose(design(moved, x), design(weights, x), rtol=1e-9, atol=1e-9)


@each
def test_every_axis_between_two_layers_moves(design: Design) -> None:
    symmetry = symmetry_of(design)
    last = list(symmetry.shapes)[-1]  # a head's bias is labelled
    labelled = [last] if last.endswith("bias") else []
    assert [n for n in symmetry.shapes if not symmetry.moves(n)] == labelled


@each
def test_gradients_reach_every_trained_weight(design: Design) -> None:
    weights = {n: w.requires_grad_("running" not in n) for n, w in weights_of(design).items()}
    trained = {n: w for n, w in weights.items() if w.requires_grad}
    # A bias before batch statistics would have none, so stored ones are used.
    gradients = torch.autograd.grad(design(weights, inputs_of(design)).square().sum(), list(trained.values()))
    assert [n for n, g in zip(trained, gradients, strict=True) if not g.abs().max() > 0] == []


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "gelu", "silu", "sin"])
def test_activations_are_known_by_name(activation: str) -> None:
    design = MLP((3, 4, 2), activation)
    x = inputs_of(design)
    outputs = {a: design_of({**config_of(design), "activation": a})(weights_of(design), x)
               for a in {activation, "relu", "tanh"}}  # fmt: skip
    assert all(not torch.equal(outputs[activation], o) for a, o in outputs.items() if a != activation)
