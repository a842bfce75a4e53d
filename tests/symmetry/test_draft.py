from __future__ import annotations

import pytest

from deepalign_cli.errors import AmbiguousError
from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.draft import Draft, refuse_group_norm, with_mark
from deepalign_cli.symmetry.layout import Layout, Module

SHAPES: dict[str, tuple[int, ...]] = {
    "conv.weight": (8, 3, 5, 5),
    "conv.bias": (8,),
    "bn.weight": (8,),
    "bn.running_mean": (8,),
    "bn.num_batches_tracked": (),
    "ln.weight": (8,),
    "ln.bias": (8,),
    "prelu.weight": (8,),
}


def module(path: str) -> Module:
    return Layout(SHAPES).modules()[path]


def lines(draft: Draft) -> dict[str, str]:
    return {name: format_axes(axes) for name, axes in draft.spec().axes.items()}


def test_a_layer_multiplies_its_outputs_and_divides_its_inputs() -> None:
    draft = Draft("x")
    draft.linear(module("conv"), "k", "r*4")
    assert lines(draft) == {"conv.weight": "+k -r*4 5 5", "conv.bias": "+k"}
    draft.linear(module("conv"), "k", "3", marked=False)
    assert lines(draft) == {"conv.weight": "k 3 5 5", "conv.bias": "k"}
    draft.linear(module("conv"), "k", "r", transposed=True)
    assert lines(draft)["conv.weight"] == "-r +k 5 5"


def test_statistics_only_move() -> None:
    draft = Draft("x")
    draft.norm(module("bn"), "k")
    assert lines(draft) == {"bn.weight": "+k", "bn.running_mean": "k"}


def test_groups_that_only_permute_lose_their_marks_and_others_keep_them() -> None:
    draft = Draft("x")
    draft.linear(module("conv"), "k", "r*4")
    draft.only_permute({"r"})
    assert lines(draft)["conv.weight"] == "+k r*4 5 5"


@pytest.mark.parametrize(
    ("axis", "marked"),
    [("k", "+k"), ("k*4", "+k*4"), ("10", "10"), ("3*k", "3*k"), ("-k", "-k"), ("a|b", "a|b")],
)
def test_only_what_begins_with_one_bare_group_is_marked(axis: str, marked: str) -> None:
    assert with_mark(axis, "+") == marked


def test_only_a_norm_without_statistics_may_be_a_group_norm() -> None:
    refuse_group_norm(module("bn"))
    refuse_group_norm(module("prelu"))
    with pytest.raises(AmbiguousError, match="'ln' may be a GroupNorm"):
        refuse_group_norm(module("ln"))
