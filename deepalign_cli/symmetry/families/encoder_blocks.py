"""Stacks of `nn.TransformerEncoderLayer`: heads, fused in_proj, feed-forward units, residual stream.

The number of heads is not in the shapes. With `heads` they move as blocks; without it they stay.
Tensors outside the blocks (embeddings, positions, final norm, head) carry the stream on the one axis that
has its width. It moves only where they show where it comes from and where it goes to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from deepalign_cli.errors import UsageError
from deepalign_cli.symmetry.draft import Draft, ambiguous, misfit
from deepalign_cli.symmetry.families.words import is_embedding, tokens
from deepalign_cli.symmetry.layout import Layout
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
    outside = _Outside(layout.shapes, inside, width)
    stays = []
    _write_outside(draft, outside)
    if why := outside.why_it_stays():
        draft.hold("stream", width)
        stays.append(f"the residual stream stays in place: {why}; a spec can move it")
    if layout.heads is None:
        stays.append("attention heads stay in place: their number is not in the shapes; --heads N moves them")
    return replace(draft.spec(), stays=tuple(stays))


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


class _Outside:
    """The tensors outside of the blocks, and whether they show where the stream comes from and goes to.

    It comes from embeddings and goes through a table of positions, without which positions may be computed;
    it goes to layers that read it whole. Where a part of that is not in the file, what adds into the stream
    or reads it may be something without tensors, and the stream stays.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], inside: set[str], width: int) -> None:
        self.width = width
        self.modules = Layout(shapes).modules()
        self.shapes = {name: shape for name, shape in shapes.items() if name not in inside and shape}
        self.carriers = {name: self._carriers(name, shape) for name, shape in self.shapes.items()}

    def why_it_stays(self) -> str:
        """What the file does not show, if anything."""
        strangers = [n for n, axes in self.carriers.items() if not axes and not self._reads_or_writes(n)]
        written = {s[0] for n, s in self.shapes.items() if len(s) >= 2 and n not in strangers}
        strange = next((n for n in strangers if self._is_wide(self.shapes[n], written)), None)
        if strange:
            return f"'{strange}' {list(self.shapes[strange])} may read several of its places side by side"
        carrying = {n: axes[0] for n, axes in self.carriers.items() if axes}
        matrices = {n: a for n, a in carrying.items() if len(self.shapes[n]) >= 2 and not _is_position(n)}
        sources = [n for n, a in matrices.items() if a == 0 or self._is_table(n)]
        if not sources:
            return "no embedding or first layer of its width is in the file"
        if not any(_is_position(name) for name in carrying):
            return "no table of positions is in the file, so they may be computed"
        if not any(
            a == 1 and not self._is_table(n) and len(self.shapes[n]) == 2 for n, a in matrices.items()
        ):
            return "no head that reads it is in the file"
        return ""

    def _is_table(self, name: str) -> bool:
        path = place_of(name).path
        return len(self.shapes[name]) == 2 and is_embedding(path) and "bias" not in self.modules[path].shapes

    def _reads_or_writes(self, name: str) -> bool:
        """Whether a tensor without the stream belongs to a module that has it: a head's bias."""
        module = self.modules[place_of(name).path]
        return any(self.carriers.get(other) for other in module.names.values() if other in self.shapes)

    def _is_wide(self, shape: tuple[int, ...], written: set[int]) -> bool:
        """Whether a matrix may read the stream and more; one that reads what a head writes does not."""
        return len(shape) >= 2 and max(shape[:2]) > self.width and shape[1] not in written

    def _carriers(self, name: str, shape: tuple[int, ...]) -> list[int]:
        place = place_of(name)
        weight = self.modules[place.path].shapes.get("weight", ())
        if place.role == "bias" and len(weight) >= 2:
            return [0] if weight[0] == self.width and weight[1] != self.width and len(shape) == 1 else []
        if len(shape) == 2 and self._is_table_shape(place.path):
            return [1] if shape[1] == self.width else []
        return [axis for axis, extent in enumerate(shape) if extent == self.width]

    def _is_table_shape(self, path: str) -> bool:
        return is_embedding(path) and set(self.modules[path].shapes) == {"weight"}


def _is_position(name: str) -> bool:
    return any(word.startswith("pos") or word in ("pe", "wpe") for word in tokens(name))


def _write_outside(draft: Draft, outside: _Outside) -> None:
    for name, axes in outside.carriers.items():
        shape = outside.shapes[name]
        if len(axes) > 1:
            raise ambiguous(
                f"the residual stream of width {outside.width} may stand on either axis of '{name}' "
                f"{list(shape)}."
            )
        if axes:
            parts = ("stream" if i == axes[0] else str(n) for i, n in enumerate(shape))
            draft.axes[name] = " ".join(parts)
