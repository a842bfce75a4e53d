"""Stacks of `nn.TransformerEncoderLayer`: heads, fused in_proj, feed-forward units, residual stream.

The number of heads is not in the shapes. With `heads` they move as blocks; without it they stay.
Tensors outside the blocks (embeddings, positions, final norm, head) carry the stream on the one axis
that has its width.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from deepalign_cli.errors import UsageError
from deepalign_cli.symmetry.draft import Draft, ambiguous, misfit
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import group_name, pieces, place_of

_BLOCK = re.compile(r"(?P<block>.*?)self_attn\.in_proj_weight")
_PARTS = {
    "self_attn.in_proj_weight", "self_attn.in_proj_bias",
    "self_attn.out_proj.weight", "self_attn.out_proj.bias",
    "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias",
    "norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias",
}  # fmt: skip


def match(layout: Layout) -> Spec | None:
    """The spec of a transformer encoder, or None if this is not one.

    Raises:
        AmbiguousError: the stream could stand on two axes of a tensor outside the blocks.
        SpecError: the blocks' shapes contradict one another.
        UsageError: `heads` does not divide the width.
    """
    blocks = sorted((m["block"] for n in layout.shapes if (m := _BLOCK.fullmatch(n))), key=pieces)
    if not blocks:
        return None
    inside = {block + part for block in blocks for part in _PARTS if block + part in layout.shapes}
    if any(name.startswith(tuple(filter(None, blocks))) for name in layout.shapes if name not in inside):
        return None
    widths = {layout.shapes[block + "self_attn.in_proj_weight"][1] for block in blocks}
    if len(widths) > 1:
        return None
    width = widths.pop()
    draft = Draft("transformer encoder")
    for block in blocks:
        _write_block(draft, layout, block, width)
    _write_outside(draft, layout.shapes, inside, width)
    if layout.heads is None:
        draft.assumptions.append(
            "the number of attention heads is not in the shapes, so heads stay in place; --heads N moves them"
        )
    return draft.spec()


def _write_block(draft: Draft, layout: Layout, block: str, width: int) -> None:
    inner = _heads_axis(block, width, layout.heads)
    units = group_name(f"{block}ffn")
    fused = f"3*{inner}" if layout.heads else str(3 * width)
    texts = {
        "self_attn.in_proj_weight": f"{fused} stream",
        "self_attn.in_proj_bias": fused,
        "self_attn.out_proj.weight": f"stream {inner}",
        "linear1.weight": f"+{units} stream",
        "linear1.bias": f"+{units}",
        "linear2.weight": f"stream -{units}",
    }
    for part in sorted(_PARTS):
        name = block + part
        if name in layout.shapes:
            draft.axes[name], shape = texts.get(part, "stream"), layout.shapes[name]
            if len(shape) != len(draft.axes[name].split()):
                raise misfit(f"'{name}' has the shape {list(shape)}, which no transformer block has.")


def _heads_axis(block: str, width: int, heads: int | None) -> str:
    if heads is None:
        return str(width)
    if heads < 1 or width % heads:
        raise UsageError(f"{heads} heads do not divide the width {width}.", "correct --heads.")
    return f"{group_name(block + 'heads')}*{width // heads}"


def _write_outside(draft: Draft, shapes: Mapping[str, tuple[int, ...]], inside: set[str], width: int) -> None:
    modules = Layout(shapes).modules()
    for name, shape in shapes.items():
        if name in inside:
            continue
        carriers = _carriers(name, shape, width, modules)
        if len(carriers) > 1:
            raise ambiguous(
                f"the residual stream of width {width} may stand on either axis of '{name}' {list(shape)}."
            )
        if carriers:
            draft.axes[name] = " ".join("stream" if i == carriers[0] else str(n) for i, n in enumerate(shape))
            if width in (2 * n for n in shape) or shape.count(width) > 1:
                draft.assumptions.append(f"'{name}' is assumed to carry the stream on axis {carriers[0]}")
        elif shape:
            draft.assumptions.append(f"'{name}' {list(shape)} is assumed not to touch the stream")


def _carriers(name: str, shape: tuple[int, ...], width: int, modules: dict[str, Module]) -> list[int]:
    place = place_of(name)
    weight = modules[place.path].shapes.get("weight", ())
    if place.role == "bias" and len(weight) >= 2:
        return [0] if weight[0] == width and weight[1] != width and len(shape) == 1 else []
    return [axis for axis, extent in enumerate(shape) if extent == width]
