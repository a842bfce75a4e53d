from __future__ import annotations

import pytest
from torch import nn

from deepalign_cli.errors import AmbiguousError
from deepalign_cli.symmetry import order
from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.families import chain
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Activation, Spec
from tests.symmetry.builders import family_spec, outputs_change

Shapes = dict[str, tuple[int, ...]]


def lines(spec: Spec | None) -> dict[str, str]:
    assert spec is not None
    return {name: format_axes(axes) for name, axes in spec.axes.items()}


def test_square_layers_without_numbers_are_not_put_in_an_order() -> None:
    shapes: Shapes = {"query.weight": (8, 8), "gate.weight": (8, 8), "out.weight": (8, 8)}
    with pytest.raises(AmbiguousError, match="'out' or 'query' may be layer 2 of 3") as caught:
        chain.match(Layout(shapes))
    assert "--spec a.toml" in caught.value.hint
    assert caught.value.exit_code == 3


def test_numbers_put_square_layers_in_order() -> None:
    shapes: Shapes = {f"fc{n}.weight": (8, 8) for n in (10, 2, 1)}
    spec = chain.match(Layout(shapes))
    assert lines(spec) == {"fc1.weight": "+fc1 8", "fc2.weight": "+fc2 -fc1", "fc10.weight": "8 -fc2"}
    assert spec is not None
    assert spec.assumptions[0] == (
        "no skip connection is assumed between the inputs, 'fc1', 'fc2' and 'fc10', which are all 8 wide"
    )


def test_shapes_put_layers_without_numbers_in_order() -> None:
    spec = chain.match(Layout({"head.weight": (3, 7), "encode.weight": (6, 5), "mix.weight": (7, 6)}))
    assert lines(spec) == {
        "encode.weight": "+encode 5",
        "mix.weight": "+mix -encode",
        "head.weight": "3 -mix",
    }
    assert spec is not None
    assert spec.assumptions[:2] == (
        "'encode' is assumed to feed 'mix', which their shapes alone suggest",
        "'mix' is assumed to feed 'head', which their shapes alone suggest",
    )


@pytest.mark.slow
def test_so_many_orders_that_they_are_not_counted_are_ambiguous_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_BUDGET", 1000)
    names = [f"{letter}.weight" for letter in "abcdefghijkl"]
    # Every order dies at the last layer, which nothing feeds.
    shapes: Shapes = dict.fromkeys(names, (8, 8)) | {"z.weight": (4, 5)}
    with pytest.raises(AmbiguousError, match="too many orders"):
        chain.match(Layout(shapes))


def test_weights_in_other_frameworks_names_may_be_in_out() -> None:
    shapes: Shapes = {"W1": (5, 6), "b1": (6,), "W2": (6, 3), "b2": (3,)}
    assert lines(chain.match(Layout(shapes))) == {"W1": "5 +h1", "b1": "+h1", "W2": "-h1 3", "b2": "3"}
    turned: Shapes = {"W1": (6, 5), "b1": (6,), "W2": (3, 6), "b2": (3,)}
    assert lines(chain.match(Layout(turned))) == {"W1": "+h1 5", "b1": "+h1", "W2": "3 -h1", "b2": "3"}


def test_square_weights_in_other_frameworks_names_have_two_readings() -> None:
    shapes: Shapes = {"W1": (8, 8), "b1": (8,), "W2": (8, 8), "b2": (8,)}
    with pytest.raises(AmbiguousError, match=r"\(out, in\) or as \(in, out\)"):
        chain.match(Layout(shapes))
    # PyTorch's own names hold (out, in).
    spec = chain.match(Layout({"l1.weight": (8, 8), "l1.bias": (8,), "l2.weight": (8, 8), "l2.bias": (8,)}))
    assert lines(spec)["l2.weight"] == "8 -l1"


def test_pytorchs_names_may_hold_in_out_where_only_that_fits() -> None:
    shapes: Shapes = {"fc1.weight": (5, 6), "fc1.bias": (6,), "fc2.weight": (6, 3), "fc2.bias": (3,)}
    assert lines(chain.match(Layout(shapes)))["fc2.weight"] == "-fc1 3"  # as in GPT-2's Conv1D


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"a.weight": (5, 4), "b.weight": (3, 6)},
        {"a.weight": (5, 4), "a.alpha": (5,)},
        {"a.weight": (0, 4)},
        {"a.weight": (5, 4), "a.bias": (3,)},
        {"scale.weight": (5,)},
    ],
    ids=["empty", "does not fit", "unknown role", "no units", "bias of neither side", "norm alone"],
)
def test_what_is_no_chain_is_left_to_others(shapes: Shapes) -> None:
    assert chain.match(Layout(shapes)) is None


def test_a_flattened_convolution_gives_each_channel_its_entries() -> None:
    shapes: Shapes = {
        "conv1.weight": (8, 3, 3, 3),
        "conv2.weight": (4, 8, 1, 1),
        "fc1.weight": (10, 64),
        "fc2.weight": (2, 10),
    }
    spec = chain.match(Layout(shapes))
    assert lines(spec) == {
        "conv1.weight": "+conv1 3 3 3",
        "conv2.weight": "+conv2 -conv1 1 1",
        "fc1.weight": "+fc1 -conv2*16",
        "fc2.weight": "2 -fc1",
    }
    assert spec is not None
    assert spec.pooled == {"conv1", "conv2"}


class Depthwise(nn.Sequential):
    """MobileNet's way: pointwise and depthwise convolutions in turn, each with a norm."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Conv2d(8, 12, 1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
        )  # fmt: skip


@pytest.mark.parametrize("activation", [None, Activation.RELU])
def test_a_depthwise_convolution_moves_with_the_channels_before_it(activation: Activation | None) -> None:
    spec = family_spec(Depthwise()).with_activation(activation)
    assert lines(spec)["3.weight"] == "h0 1 3 3"
    assert set(spec.kinds) == (set() if activation is None else {"h6"})  # a scale would pass h0's norms twice
    assert outputs_change(Depthwise(), (3, 10, 10), spec) <= 1e-12


def test_a_prelu_gain_moves_but_is_not_scaled() -> None:
    module = nn.Sequential(nn.Linear(5, 8), nn.PReLU(8), nn.Linear(8, 3))
    spec = family_spec(module).with_activation(Activation.RELU)
    assert lines(spec)["1.weight"] == "h0"
    assert not spec.kinds
    assert outputs_change(module, (5,), spec) <= 1e-12


def test_a_norm_over_the_inputs_moves_nothing() -> None:
    module = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    spec = family_spec(module)
    assert not any(name.startswith("0.") for name in spec.axes)
    assert outputs_change(module, (5,), spec) <= 1e-12


def test_a_norm_behind_the_flattened_features_has_their_axis() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(32), nn.Linear(32, 5))
    spec = family_spec(module)
    assert lines(spec)["3.weight"].lstrip("+") == "h0*4"
    assert outputs_change(module, (3, 4, 4), spec) <= 1e-12


@pytest.mark.parametrize("ordered", [True, False])
def test_the_order_in_a_file_does_not_change_the_reading(ordered: bool) -> None:
    shapes = {"wide.weight": (48, 16), "narrow.weight": (16, 24)}
    spec = chain.match(Layout(shapes, ordered=ordered))
    assert spec is not None
    assert "'narrow' is assumed to feed 'wide'" in spec.assumptions[0]
