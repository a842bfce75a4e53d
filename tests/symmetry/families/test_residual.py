from __future__ import annotations

import pytest
from torch import Tensor, nn
from torch.nn.functional import relu

from deepalign_cli.errors import AmbiguousError, SpecError
from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.families import residual
from deepalign_cli.symmetry.layout import Layout
from deepalign_cli.symmetry.spec import Activation, Spec, parse_spec
from tests import nets
from tests.symmetry.builders import family_spec, outputs_change, shapes_of

KINDS = [None, Activation.RELU]


def option_a_spec() -> Spec:
    """The stream's new channels on both sides are groups of their own."""
    stream = {1: "+r", 2: "+p2a|+r|+p2b", 3: "+p3a|+p2a|+r|+p2b|+p3b"}
    lines = {
        "conv1.weight": "r 3 3 3",
        "linear.weight": f"10 {stream[3].replace('+', '-')}",
        "linear.bias": "10",
    }
    norms = {"bn1": "+r"}
    for stage, block in ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0)):
        path = f"layer{stage}.{block}"
        into = stream[stage - 1 if block == 0 and stage > 1 else stage]
        lines[f"{path}.conv1.weight"] = f"{path} {into.replace('+', '-')} 3 3"
        lines[f"{path}.conv2.weight"] = f"{stream[stage].replace('+', '')} -{path} 3 3"
        norms |= {f"{path}.bn1": f"+{path}", f"{path}.bn2": stream[stage]}
    for name, axis in norms.items():
        lines |= {f"{name}.weight": axis, f"{name}.bias": axis}
        lines |= {f"{name}.running_{of}": axis.replace("+", "") for of in ("mean", "var")}
    axes = "\n".join(f'"{name}" = "{line}"' for name, line in lines.items())
    return parse_spec(f"[axes]\n{axes}\n[sizes]\np2a = 4\np3a = 8\n")


def test_a_stream_that_widens_without_projection_is_not_guessed() -> None:
    with pytest.raises(AmbiguousError, match=r"widens from 8 to 16 channels in 'layer2\.0'"):
        family_spec(nets.resnet_option_a())


@pytest.mark.parametrize("activation", KINDS)
def test_a_spec_by_hand_says_where_the_padding_goes(activation: Activation | None) -> None:
    spec = option_a_spec().with_activation(activation)
    assert outputs_change(nets.resnet_option_a(), (3, 16, 16), spec) <= 1e-12


class GroupedBlock(nn.Module):
    """ResNeXt's bottleneck: the 3x3 convolution reads its channels in `groups` groups."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nets.conv1x1(8, width), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nets.conv1x1(width, 8), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        out = relu(self.bn1(self.conv1(x)))
        out = relu(self.bn2(self.conv2(out)))
        return relu(self.bn3(self.conv3(out)) + x)


class GroupedNet(nn.Module):
    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nets.conv3x3(3, 8), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(GroupedBlock(width, groups), GroupedBlock(width, groups))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.layer1(relu(self.bn1(self.conv1(x)))).mean((2, 3)))
        return out


@pytest.mark.parametrize("activation", KINDS)
@pytest.mark.parametrize("groups", [4, 12], ids=["groups", "depthwise"])
def test_around_a_grouped_convolution_whole_groups_move(groups: int, activation: Activation | None) -> None:
    spec = family_spec(GroupedNet(12, groups))
    lines = {name: format_axes(axes) for name, axes in spec.axes.items()}
    assert lines["layer1.0.conv2.weight"] == f"layer1.0.conv1*{12 // groups} {12 // groups} 3 3"
    assert lines["layer1.0.conv3.weight"].split()[1].lstrip("-") == f"layer1.0.conv1*{12 // groups}"
    assert outputs_change(GroupedNet(12, groups), (3, 6, 6), spec.with_activation(activation)) <= 1e-12


def test_all_that_adds_into_a_stream_shares_its_group() -> None:
    spec = family_spec(nets.resnet("basic"))
    first = {n for n, axes in spec.axes.items() if format_axes(axes[:1]).lstrip("+-") == "conv1"}
    assert {"conv1.weight", "bn1.weight", "layer1.0.conv2.weight", "layer1.1.bn2.running_mean"} <= first
    assert format_axes(spec.axes["layer2.0.downsample.0.weight"]) == "layer2.0 -conv1 1 1"
    assert spec.pooled == set(spec.groups())


def test_a_prefix_is_kept() -> None:
    plain = family_spec(nets.cifar_resnet())
    shapes = {f"backbone.net.{n}": s for n, s in shapes_of(nets.cifar_resnet().state_dict()).items()}
    spec = residual.match(Layout(shapes))
    assert spec is not None
    assert dict(spec.axes) == {f"backbone.net.{n}": axes for n, axes in plain.axes.items()}


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("layer1.0.conv1.weight", (8, 7, 3, 3), r"'layer1\.0\.conv1' reads 7 channels but the stream has 8"),
        ("layer1.0.conv2.weight", (8, 5, 3, 3), r"'layer1\.0\.conv2' reads 5 channels but 8 come in"),
        ("linear.weight", (10, 17), "'linear' reads 17 features, not a multiple of 16 channels"),
    ],
)
def test_shapes_that_contradict_each_other_are_named(name: str, shape: tuple[int, ...], message: str) -> None:
    shapes = shapes_of(nets.cifar_resnet().state_dict()) | {name: shape}
    with pytest.raises(SpecError, match=message):
        residual.match(Layout(shapes))


def test_norms_before_or_after_convolutions_of_equal_widths_are_not_guessed() -> None:
    shapes = shapes_of(nets.preact_resnet((8,), (2,)).state_dict())
    with pytest.raises(AmbiguousError, match="before or after"):
        residual.match(Layout(shapes))


def test_a_group_norm_is_not_taken_for_a_batch_norm() -> None:
    shapes = shapes_of(nets.cifar_resnet().state_dict())
    bare = {n: s for n, s in shapes.items() if "running" not in n and "tracked" not in n}
    with pytest.raises(AmbiguousError, match="may be a GroupNorm"):
        residual.match(Layout(bare))


def test_a_chain_is_no_residual_network() -> None:
    assert residual.match(Layout(shapes_of(nets.plain_cnn().state_dict()))) is None
    assert residual.match(Layout({})) is None
