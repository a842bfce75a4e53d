from __future__ import annotations

import pytest

from deepalign_cli.errors import AmbiguousError, SpecError
from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.families import chain
from deepalign_cli.symmetry.layout import Layout
from tests import nets
from tests.symmetry.builders import family_spec

Shapes = dict[str, tuple[int, ...]]


def norm(path: str, size: int, statistics: bool = True) -> Shapes:
    roles = ("weight", "bias", "running_mean", "running_var")[: 4 if statistics else 2]
    return {f"{path}.{role}": (size,) for role in roles}


def line(shapes: Shapes, name: str) -> str:
    spec = chain.match(Layout(shapes))
    assert spec is not None
    return format_axes(spec.axes[name])


def test_a_norm_in_a_sequence_belongs_to_the_layer_before_it() -> None:
    spec = family_spec(nets.vgg(norm=True))
    lines = {name: format_axes(axes) for name, axes in spec.axes.items()}
    assert lines["features.4.weight"] == "features.4 -features.0 3 3"  # the norm after it carries the scale
    assert lines["features.5.weight"] == "+features.4"
    assert lines["features.5.running_var"] == "features.4"


def test_a_norm_with_its_own_name_belongs_to_the_layer_with_its_number() -> None:
    spec = family_spec(nets.plain_cnn((3, 8, 8, 8), norm=True, bias=False))
    assert [format_axes(spec.axes[f"bn{n}.weight"]) for n in (1, 2, 3)] == ["+conv1", "+conv2", "+conv3"]


def test_convolution_norms_are_not_given_to_linear_layers_of_the_same_number() -> None:
    shapes: Shapes = {
        "conv1.weight": (8, 3, 3, 3),
        "fc1.weight": (8, 8),
        "fc2.weight": (2, 8),
        **norm("bn1", 8),
    }
    assert line(shapes, "bn1.weight") == "+conv1"


def test_a_norm_without_number_belongs_to_the_only_layer_of_its_size() -> None:
    shapes: Shapes = {"fc1.weight": (6, 5), "fc2.weight": (7, 6), "fc3.weight": (2, 7), **norm("norm", 7)}
    assert line(shapes, "norm.weight") == "+fc2"
    shapes["fc1.weight"], shapes["fc2.weight"] = (7, 5), (7, 7)
    with pytest.raises(AmbiguousError, match="'norm' may belong to 'fc1' or to 'fc2'"):
        chain.match(Layout(shapes))


def test_a_norm_that_might_be_over_the_inputs_is_not_guessed() -> None:
    shapes: Shapes = {"fc1.weight": (6, 6), "fc2.weight": (2, 6), **norm("norm", 6)}
    with pytest.raises(AmbiguousError, match="'fc1' or to the inputs"):
        chain.match(Layout(shapes))


def test_a_norm_of_no_layers_size_is_an_error() -> None:
    shapes: Shapes = {"fc1.weight": (6, 5), "fc2.weight": (2, 6), **norm("norm", 9)}
    with pytest.raises(SpecError, match="'norm' has 9 units, which fits no layer"):
        chain.match(Layout(shapes))


def test_a_norm_without_statistics_behind_a_convolution_may_be_a_group_norm() -> None:
    shapes: Shapes = {"conv1.weight": (8, 3, 3, 3), "fc.weight": (2, 8), **norm("gn1", 8, statistics=False)}
    with pytest.raises(AmbiguousError, match="'gn1' may be a GroupNorm"):
        chain.match(Layout(shapes))
    linear: Shapes = {"fc1.weight": (8, 3), "fc2.weight": (2, 8), **norm("ln1", 8, statistics=False)}
    assert line(linear, "ln1.weight") == "+fc1"
