"""Merging many networks: the order of the inputs changes the first's frame and nothing else."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import deepalign_cli as da
from deepalign_cli.errors import UsageError


def made(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3))
    return {name: w.double() for name, w in net.state_dict().items()}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(4)]
    for seed, path in enumerate(paths):
        save_file(made(seed), path)
    return paths


def merged(files: list[Path], out: Path) -> dict[str, Tensor]:
    da.merge(files, method="weights", restarts=1, onto="universe", out=out)
    return load_file(out)


def test_the_order_of_the_inputs_changes_the_frame_alone(files: list[Path], tmp_path: Path) -> None:
    first, second, third, fourth = files
    one = merged([first, second, third, fourth], tmp_path / "one.safetensors")
    same_first = merged([first, fourth, third, second], tmp_path / "two.safetensors")
    for name, w in one.items():
        torch.testing.assert_close(same_first[name], w, rtol=1e-12, atol=1e-12)
    merged([third, first, fourth, second], tmp_path / "three.safetensors")
    assert da.verify(tmp_path / "one.safetensors", tmp_path / "three.safetensors").same


def test_two_networks_are_a_pair_as_always(files: list[Path]) -> None:
    plain = da.merge(files[:2], method="weights", restarts=1)
    universe = da.merge(files[:2], method="weights", restarts=1, onto="universe")
    assert all(torch.equal(w, universe[name]) for name, w in plain.items())


def test_what_it_does_not_go_with_is_refused(files: list[Path]) -> None:
    with pytest.raises(UsageError, match="onto is 'mean'"):
        da.merge(files, onto="mean")
    with pytest.raises(UsageError, match="--onto universe and -m rotations exclude each other"):
        da.merge(files, method="rotations", onto="universe")
