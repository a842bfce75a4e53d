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


def merged(files: list[Path], out: Path, onto: str) -> dict[str, Tensor]:
    da.merge(files, method="weights", restarts=1, onto=onto, out=out)
    return load_file(out)


@pytest.mark.parametrize("onto", ["universe", "mean"])
def test_the_order_of_the_inputs_changes_the_frame_alone(
    onto: str, files: list[Path], tmp_path: Path
) -> None:
    first, second, third, fourth = files
    one = merged([first, second, third, fourth], tmp_path / "one.safetensors", onto)
    same_first = merged([first, fourth, third, second], tmp_path / "two.safetensors", onto)
    for name, w in one.items():
        assert torch.equal(same_first[name], w), name
    merged([third, first, fourth, second], tmp_path / "three.safetensors", onto)
    assert da.verify(tmp_path / "one.safetensors", tmp_path / "three.safetensors").same


@pytest.mark.parametrize(
    ("combine", "options"),
    [
        ("linear", {"weights": [3, 1, 2]}),
        ("karcher", {}),
        ("dare_linear", {"density": [0.3, 0.8, 0.6], "seed": 1}),
        ("ties", {"weights": [1.0, 0.5, 0.7], "density": 0.5}),
        ("linear", {"weights_for": {"2": "1,0/0,0.5/0,0.5"}}),
    ],
)
def test_whatever_combines_them_their_order_is_none(
    combine: str, options: dict[str, object], files: list[Path], tmp_path: Path
) -> None:
    """Byte for byte, what belongs to each network moved with it."""
    halves = [{name: w.bfloat16() for name, w in load_file(path).items()} for path in files]
    first, *others = halves if combine in ("dare_linear", "ties") else halves[:3]
    base = {} if combine in ("linear", "karcher") else {"base": first}
    networks = others if base else [first, *others]
    order = (2, 0, 1) if base else (0, 2, 1)
    moved = {n: _moved(n, value, order) for n, value in options.items()}
    use = {"combine": combine, "method": "weights", "onto": "universe", "restarts": 1, **base}
    one = da.merge(networks, **use, **options)
    two = da.merge([networks[i] for i in order], **use, **moved)
    assert all(torch.equal(w, two[name]) for name, w in one.items())
    assert one["0.weight"].dtype == torch.bfloat16


def _moved(name: str, value: object, order: tuple[int, ...]) -> object:
    if isinstance(value, dict):
        return {key: "/".join(text.split("/")[i] for i in order) for key, text in value.items()}
    return [value[i] for i in order] if isinstance(value, list) else value


def test_two_networks_are_a_pair_as_always(files: list[Path]) -> None:
    plain = da.merge(files[:2], method="weights", restarts=1)
    for onto in ("universe", "mean"):
        at_once = da.merge(files[:2], method="weights", restarts=1, onto=onto)
        assert all(torch.equal(w, at_once[name]) for name, w in plain.items())


@pytest.mark.parametrize("onto", ["universe", "mean"])
def test_statistics_of_norms_go_with_their_units(onto: str) -> None:
    """They have no part in the matching, but in the merge."""
    first = _normed(0)
    symmetry = da.align(first, first, method="none").symmetry
    rng = torch.Generator().manual_seed(3)
    moved = [symmetry.apply(symmetry.random(rng), first.state_dict()) for _ in range(2)]
    merged = da.merge([first.state_dict(), *moved], method="weights", onto=onto, activation="relu")
    for name, w in first.state_dict().items():
        torch.testing.assert_close(merged[name], w, msg=name)


def _normed(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 3)).double()
    net(torch.randn(50, 6, dtype=torch.float64))
    return net.eval()


def test_the_mean_is_asked_of_the_method_itself(files: list[Path]) -> None:
    found = da.merge(files, method="deepalign", onto="mean").alignments
    assert {one.details["rounds"] for one in found} <= {0, 1, 2, 3, 4}
    assert list(found[0].objective) == sorted(found[0].objective)


def test_what_it_does_not_go_with_is_refused(files: list[Path]) -> None:
    with pytest.raises(UsageError, match="onto is 'median'"):
        da.merge(files, onto="median")
    with pytest.raises(UsageError, match="--onto universe and -m rotations exclude each other"):
        da.merge(files, method="rotations", onto="universe")
