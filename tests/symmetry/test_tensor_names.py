from __future__ import annotations

import pytest

from deepalign_cli.symmetry.axes import parse_axes
from deepalign_cli.symmetry.tensor_names import (
    Place,
    common_prefix,
    group_name,
    is_statistic,
    numbers,
    pieces,
    place_of,
    stands_before,
)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("net.0.weight", Place("net.0", "weight", True)),
        ("bn1.running_mean", Place("bn1", "running_mean", True)),
        ("weight", Place("", "weight", True)),
        ("W1", Place("1", "weight", False)),
        ("layer1_b", Place("layer1", "bias", False)),
        ("weights.2", Place(".2", "weight", False)),
        ("dense/kernel:0", Place("dense/", "weight", False)),
        ("encoder.cls", Place("encoder", "cls", False)),
    ],
)
def test_a_name_tells_module_and_role(name: str, place: Place) -> None:
    assert place_of(name) == place


def test_a_weight_and_its_bias_share_a_path() -> None:
    for weight, bias in (
        ("W1", "b1"),
        ("fc1_weight", "fc1_bias"),
        ("weights.2", "biases.2"),
        ("a/kernel", "a/bias"),
    ):
        assert place_of(weight).path == place_of(bias).path
        assert (place_of(weight).role, place_of(bias).role) == ("weight", "bias")


def test_paths_fall_into_words_and_numbers() -> None:
    assert pieces("features.10.conv2") == (("features.", 10), (".conv", 2))
    assert pieces("head") == (("head", -1),)
    assert pieces("") == ()
    assert numbers("layer1.0.conv2") == (1, 0, 2)
    assert sorted(["fc10", "fc2", "fc1"], key=pieces) == ["fc1", "fc2", "fc10"]


@pytest.mark.parametrize(
    ("first", "second", "before"),
    [
        ("fc2", "fc10", True),
        ("fc10", "fc2", False),
        ("net.1.a9", "net.2.a1", True),
        ("conv1", "fc2", None),
        ("block1.conv", "block1.norm", None),
        ("fc1", "fc1", None),
        ("fc", "fc2", None),
    ],
)
def test_numbers_put_paths_of_the_same_words_in_order(first: str, second: str, before: bool | None) -> None:
    assert stands_before(first, second) is before


@pytest.mark.parametrize("path", ["layer1.0.conv1", "0", "", "a/b:0", "3d-conv", "ünits", "a b|c*d"])
def test_any_path_becomes_a_name_in_the_grammar(path: str) -> None:
    (axis,) = parse_axes(group_name(path))
    assert list(axis.groups()) == [group_name(path)]


def test_the_prefix_is_what_all_dotted_names_share() -> None:
    assert common_prefix(["a.b.fc.weight", "a.b.fc.bias", "a.b.conv.weight"]) == "a.b."
    assert common_prefix(["ab.weight", "ac.weight"]) == ""
    assert common_prefix(["a.weight"]) == "a."
    assert common_prefix([]) == ""


def test_running_statistics_are_known_by_name() -> None:
    assert is_statistic("bn.running_var")
    assert not is_statistic("running_var.weight")
