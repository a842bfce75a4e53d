from __future__ import annotations

import pytest

from deepalign_cli.errors import AmbiguousError, SpecError, UsageError
from deepalign_cli.symmetry.axes import format_axes
from deepalign_cli.symmetry.families import encoder_blocks
from deepalign_cli.symmetry.layout import Layout
from tests import nets
from tests.symmetry.builders import family_spec, shapes_of

SHAPES = shapes_of(nets.transformer_classifier().state_dict())


def test_heads_stay_where_their_number_is_not_known_and_the_spec_says_so() -> None:
    spec = family_spec(nets.transformer_classifier())
    block = "encoder.layers.0."
    assert format_axes(spec.axes[f"{block}self_attn.in_proj_weight"]) == "48 stream"
    assert any("--heads N" in line for line in spec.stays)
    assert not spec.assumptions
    known = family_spec(nets.transformer_classifier(), heads=4)
    assert format_axes(known.axes[f"{block}self_attn.in_proj_weight"]) == f"3*{block}heads*4 stream"
    assert format_axes(known.axes[f"{block}linear2.weight"]) == f"stream -{block}ffn"
    assert not known.stays


@pytest.mark.parametrize("heads", [3, 32])
def test_heads_that_do_not_divide_the_width_are_refused(heads: int) -> None:
    with pytest.raises(UsageError, match=f"{heads} heads do not divide the width 16"):
        encoder_blocks.match(Layout(SHAPES, heads))


def test_tensors_outside_the_blocks_carry_the_stream_on_the_axis_of_its_width() -> None:
    spec = family_spec(nets.vision_transformer())
    lines = {name: format_axes(axes) for name, axes in spec.axes.items()}
    assert (lines["embed.weight"], lines["embed.bias"]) == ("stream 3 4 4", "stream")
    assert (lines["pos"], lines["head.weight"]) == ("1 17 stream", "10 stream")
    assert "head.bias" not in lines


def test_two_axes_of_the_streams_width_are_not_guessed() -> None:
    with pytest.raises(AmbiguousError, match=r"either axis of 'embed\.weight' \[16, 16\]"):
        encoder_blocks.match(Layout({**SHAPES, "embed.weight": (16, 16)}))


def test_a_contradiction_inside_a_block_is_an_error() -> None:
    name = "encoder.layers.0.linear1.weight"
    with pytest.raises(SpecError, match=f"'{name}' has the shape"):
        encoder_blocks.match(Layout({**SHAPES, name: (24,)}))


def test_other_blocks_are_left_to_others() -> None:
    assert encoder_blocks.match(Layout(shapes_of(nets.mlp().state_dict()))) is None
    assert encoder_blocks.match(Layout({**SHAPES, "encoder.layers.0.gate": (16,)})) is None
    wide = {**SHAPES, "encoder.layers.1.self_attn.in_proj_weight": (60, 20)}
    assert encoder_blocks.match(Layout(wide)) is None
