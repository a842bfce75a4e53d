from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from deepalign_cli.errors import SpecError
from deepalign_cli.models.lookup import network_for
from tests.models.builders import generic, inputs, same, stored

RELU = {"activation": "relu"}


def check(folder: Path, module: nn.Module, shape: tuple[int, ...], options: dict[str, str]) -> str:
    module, weights = generic(module)
    network = network_for(stored(folder, weights), options=options)
    assert same(network, weights, module, inputs(shape))
    return network.says


def lenet(first: int = 0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=first), nn.Tanh(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(400, 20), nn.Tanh(), nn.Linear(20, 10),
    )  # fmt: skip


def test_padding_and_pools_are_as_they_are_said(tmp_path: Path) -> None:
    options = {"activation": "tanh", "pools": "1,2", "pool": "mean"}
    says = check(tmp_path, lenet(), (1, 32, 32), {**options, "padding": "0"})
    assert says == (
        "a plain CNN, tanh, padding 0, stride 1, mean-pools of 2 behind convolution 1,2, flattened, "
        "from names and shapes"
    )
    check(tmp_path, lenet(2), (1, 28, 28), {**options, "padding": "2,0", "size": "28"})


@pytest.mark.slow
def test_the_side_of_the_images_is_known_where_it_is_said_or_only_one_fits(tmp_path: Path) -> None:
    options = {"activation": "tanh", "pools": "1,2", "padding": "0"}
    _, weights = generic(lenet())
    checkpoint = stored(tmp_path, weights)
    assert network_for(checkpoint, options=options).input_shape is None  # 32 to 35
    assert network_for(checkpoint, options={**options, "size": "33"}).input_shape == (1, 33, 33)
    assert network_for(checkpoint, options={**options, "size": "32,34"}).input_shape == (1, 32, 34)

    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    _, weights = generic(module)
    one = network_for(stored(tmp_path, weights), options={**RELU, "padding": "0", "pools": "none"})
    assert one.input_shape == (1, 8, 8)
    assert one.run(weights, inputs((64,))).shape == (5, 3)


@pytest.mark.parametrize("features", [7 * 11, 1023 * 1025])
def test_a_flattening_that_fits_no_image_is_no_guess(tmp_path: Path, features: int) -> None:
    module = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Flatten(), nn.Linear(features, 2))
    options = {**RELU, "padding": "0", "pools": "none", "stride": "2"}
    if features == 77:
        assert network_for(stored(tmp_path, module.state_dict()), options=options).input_shape is None
        return
    with pytest.raises(SpecError, match="no image of up to 1024 pixels a side gives the 1048575 numbers"):
        network_for(stored(tmp_path, module.state_dict()), options=options)


def test_strides_pool_sizes_and_heads(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 8, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    options = {**RELU, "stride": "2,1", "padding": "2,0", "pools": "1", "pool_size": "3"}
    says = check(tmp_path, module, (3, 20, 20), {**options, "pool_stride": "2", "head": "max"})
    assert "stride 2,1, max-pools of 3, stride 2 behind convolution 1, maximum over places" in says


def test_adaptive_pooling_before_flattening(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 4)
    )
    check(tmp_path, module, (3, 10, 13), {**RELU, "padding": "0", "pools": "none", "adaptive": "3"})
    with pytest.raises(SpecError, match="'4' reads 9 numbers a channel, which does not fit head=flatten"):
        check(tmp_path, module, (3, 9, 9), {**RELU, "padding": "0", "pools": "none", "adaptive": "2"})


def test_networks_of_convolutions_alone(tmp_path: Path) -> None:
    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    options = {**RELU, "padding": "0", "pools": "none"}
    check(tmp_path, nn.Sequential(*module, Mean()), (1, 9, 9), {**options, "head": "mean"})
    check(tmp_path, module, (1, 9, 9), {**options, "head": "none"})
    with pytest.raises(SpecError, match="a plain CNN do not tell its head"):
        check(tmp_path, module, (1, 9, 9), options)


def test_depthwise_convolutions(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    check(tmp_path, module, (3, 8, 8), {**RELU, "padding": "same", "pools": "none"})


def test_one_and_three_dimensions(tmp_path: Path) -> None:
    line = nn.Sequential(nn.Conv1d(2, 5, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(20, 3))
    check(tmp_path, line, (2, 10), {**RELU, "padding": "0", "pools": "1", "size": "10"})
    cube = nn.Sequential(nn.Conv3d(2, 5, 3), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(40, 3))
    check(tmp_path, cube, (2, 6, 6, 6), {**RELU, "padding": "0", "pools": "1"})


def sequential(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), *layers, nn.Linear(8, 3))


def test_numbers_tell_on_which_side_of_the_activation_a_norm_stands(tmp_path: Path) -> None:
    norm = nn.BatchNorm1d(8)
    assert "norms before" in check(tmp_path, sequential(norm, nn.ReLU()), (6,), RELU)
    assert "norms behind" in check(tmp_path, sequential(nn.ReLU(), norm), (6,), RELU)
    after = sequential(nn.ReLU(), norm, nn.Dropout())
    with pytest.raises(SpecError, match="do not tell its norm"):
        check(tmp_path, after, (6,), RELU)
    check(tmp_path, after, (6,), {**RELU, "norm": "after"})
    check(tmp_path, sequential(nn.Identity(), norm, nn.ReLU()), (6,), {**RELU, "norm": "before"})


def test_norms_of_the_inputs_of_the_outputs_and_without_weights(tmp_path: Path) -> None:
    module = nn.Sequential(
        nn.BatchNorm1d(6), nn.Linear(6, 8), nn.BatchNorm1d(8, affine=False, eps=1e-3), nn.ReLU(),
        nn.Linear(8, 3), nn.BatchNorm1d(3),
    )  # fmt: skip
    module[0].eps = module[5].eps = 1e-3
    check(tmp_path, module, (6,), {**RELU, "eps": "1e-3"})


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ((nn.PReLU(8),), "of '1' do not say"),
        ((nn.LayerNorm(8, bias=False), nn.ReLU()), "of '1' do not say"),
        ((nn.BatchNorm1d(8), nn.LayerNorm(8), nn.ReLU()), "of '[12]' do not say"),
    ],
)
def test_what_may_be_several_things_is_no_guess(
    tmp_path: Path, layers: tuple[nn.Module, ...], named: str
) -> None:
    with pytest.raises(SpecError, match=named) as caught:
        check(tmp_path, sequential(*layers), (6,), RELU)
    assert "--model file.py:factory" in caught.value.hint


def test_kernels_that_are_not_square(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(1, 4, (3, 1)), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3))
    with pytest.raises(SpecError, match="the kernel of '0' is not square"):
        check(tmp_path, module, (1, 8, 6), {**RELU, "padding": "0", "pools": "none"})


def test_its_layers_are_given_the_very_tensors(tmp_path: Path) -> None:
    from tests.models.test_exported import Names

    _, weights = generic(lenet())
    options = {"activation": "tanh", "pools": "1,2", "padding": "0"}
    network = network_for(stored(tmp_path, weights), options=options)
    with Names(weights) as mode, torch.no_grad():
        network.run(weights, inputs((1, 32, 32)))
    assert mode.seen.keys() == weights.keys()
