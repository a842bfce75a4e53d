from __future__ import annotations

from pathlib import Path

import pytest
from torch import Tensor, nn
from torch.nn import functional

from deepalign_cli.errors import DeepalignError, SpecError
from deepalign_cli.models.lookup import network_for
from tests import nets
from tests.models.builders import generic, inputs, same, stored


def check(folder: Path, module: nn.Module, options: dict[str, str], side: int = 24) -> str:
    module, weights = generic(module)
    network = network_for(stored(folder, weights), options=options)
    assert same(network, weights, module, inputs((3, side, side), 3))
    return network.says


class Small(nn.Module):
    """torchvision's blocks behind a 3x3 stem: `activation`, strides and the head's reading are open."""

    def __init__(self, strides: tuple[int, ...], stem: int = 1, pool: bool = False, flat: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nets.conv3x3(3, 4, stem), nn.BatchNorm2d(4)
        self.pool, self.flat, width = pool, flat > 1, 4
        for i, stride in enumerate(strides, 1):
            down = nn.Sequential(nets.conv1x1(width, 4 + 2 * i, stride), nn.BatchNorm2d(4 + 2 * i))
            block = nets.BasicBlock(width, 4 + 2 * i, stride, down)
            width = 4 + 2 * i
            self.add_module(f"layer{i}", nn.Sequential(block, nets.BasicBlock(width, width, 1, None)))
        self.count, self.fc = len(strides), nn.Linear(width * flat, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, 3, 2, 1) if self.pool else x
        for i in range(1, self.count + 1):
            x = self.get_submodule(f"layer{i}")(x)
        out: Tensor = self.fc(x.flatten(1) if self.flat else x.mean((2, 3)))
        return out


def test_strides_and_stems_are_torchvisions_unless_they_are_said(tmp_path: Path) -> None:
    assert "stem 3x3, stride 1, strides 1,1,2,1" in check(tmp_path, Small((1, 2)), {})
    check(tmp_path, Small((2, 1)), {"strides": "2,1"})
    says = check(tmp_path, Small((1, 2), 2, True), {"stem_stride": "2", "stem_pool": "max"})
    assert "stem 3x3, stride 2 and max-pool" in says


def test_a_wrapper_before_all_names_and_a_stated_size(tmp_path: Path) -> None:
    module, weights = generic(nets.cifar_resnet())
    named = {f"net.backbone.{n}": w for n, w in weights.items()}
    network = network_for(stored(tmp_path, named), options={"size": "16"})
    assert same(network, named, module, inputs((3, 16, 16)))
    assert network.input_shape == (3, 16, 16)


def test_a_head_may_read_all_places(tmp_path: Path) -> None:
    check(tmp_path, Small((1, 2), flat=9), {}, side=6)


def test_bottlenecks_may_stride_elsewhere_and_in_groups(tmp_path: Path) -> None:
    class Grouped(nn.Module):
        expansion = 4

        def __init__(self, c_in: int, width: int, stride: int, downsample: nn.Module | None) -> None:
            super().__init__()
            self.conv1, self.bn1 = nets.conv1x1(c_in, width, stride), nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=2, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3, self.bn3 = nets.conv1x1(width, 4 * width), nn.BatchNorm2d(4 * width)
            self.downsample = downsample

        def forward(self, x: Tensor) -> Tensor:
            skip = x if self.downsample is None else self.downsample(x)
            x = functional.relu(self.bn1(self.conv1(x)))
            x = functional.relu(self.bn2(self.conv2(x)))
            return functional.relu(self.bn3(self.conv3(x)) + skip)

    module = nets.ResNet(Grouped, (4, 6), (2, 1), 5)  # type: ignore[arg-type]
    check(tmp_path, module, {"stride_at": "1"}, side=33)


def test_activations_other_than_relu(tmp_path: Path) -> None:
    module, weights = generic(nets.cifar_resnet())
    checkpoint, x = stored(tmp_path, weights), inputs((3, 16, 16))
    found = network_for(checkpoint, options={"activation": "gelu"})
    assert "gelu" in found.says
    assert not same(found, weights, module, x)


@pytest.mark.parametrize("rest", [[""], ["layer1.0", "layer1.1"]])
def test_blocks_without_stages_need_their_strides(tmp_path: Path, rest: list[str]) -> None:
    _, weights = generic(Small((1,)))
    if rest == [""]:
        weights = {n.replace("layer1.", "layer"): w for n, w in weights.items()}
    with pytest.raises(SpecError, match="a ResNet do not tell its strides"):
        network_for(stored(tmp_path, weights))
    network = network_for(stored(tmp_path, weights), options={"strides": "1,1"})
    assert network.run(weights, inputs((3, 8, 8))).shape == (5, 5)
    with pytest.raises(SpecError, match="a block without a projection has a stride above 1"):
        network_for(stored(tmp_path, weights), options={"strides": "1,2"})


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("layer2.0.shortcut.0.", "layer2.0.shortcut.1.", "the name and shapes of 'layer2"),
        ("layer2.0.conv1.", "layer2.0.conv1.0.", "the name and shapes of 'layer2.0.conv1.0' do"),
    ],
)
def test_what_the_names_leave_open_is_no_guess(tmp_path: Path, old: str, new: str, named: str) -> None:
    _, weights = generic(nets.cifar_resnet())
    weights = {n.replace("shortcut.1.", "shortcut.2."): w for n, w in weights.items()}
    renamed = {n.replace(old, new).replace("bn1.", "bn1." + "0." * ("conv1.0" in new))
               if n.startswith("layer2.0") else n: w for n, w in weights.items()}  # fmt: skip
    with pytest.raises(DeepalignError, match=named):
        network_for(stored(tmp_path, renamed))
