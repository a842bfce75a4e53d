from __future__ import annotations

import pytest
import torch

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.moves import Move
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.symmetry import Symmetry

SPEC = """
[axes]
"w" = "+k h*3 2"
"bias" = "~k"
"inert" = "4"
[kinds]
k = "scale"
"""
SHAPES = {"w": (11, 15, 2), "bias": (11,), "inert": (4,)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8, torch.bool])
def test_an_axis_is_taken_as_torch_does(dtype: torch.dtype) -> None:
    w = torch.randint(0, 2, (3, 7, 5)).to(dtype)
    for axis in (0, 1, 2):
        index = torch.randperm(w.shape[axis])
        assert Move("w", {axis: index}, {})(w).equal(w.index_select(axis, index))
        strided = w.transpose(0, 1)
        index = torch.randperm(strided.shape[axis])
        assert Move("w", {axis: index}, {})(strided).equal(strided.index_select(axis, index))


def test_rows_are_those_of_the_whole() -> None:
    symmetry = Symmetry(Spec.parse(SPEC), SHAPES)
    g = symmetry.random(torch.Generator().manual_seed(0))
    for name, shape in SHAPES.items():
        w = torch.randn(shape).bfloat16()
        move, expected = symmetry.move(g, name), symmetry.act(g, name, w)
        assert move(w).equal(expected)
        for start, stop in ((0, 1), (1, 4), (3, shape[0])):
            rows = move.rows(lambda w=w: w, lambda i, j, w=w: w[i:j], start, stop)
            assert rows.equal(expected[start:stop])
    assert symmetry.move(g, "inert").is_still
    assert symmetry.move(symmetry.identity(), "w").is_still


def test_an_element_cut_down_to_some_units_leaves_the_others_out() -> None:
    symmetry = Symmetry(Spec.parse('[axes]\n"w" = "k 2"'), {"w": (4, 2)})
    w = torch.arange(8.0).reshape(4, 2)

    some = symmetry.act(Element({"k": torch.tensor([0, 1])}), "w", w)

    assert torch.equal(some, w[:2])
