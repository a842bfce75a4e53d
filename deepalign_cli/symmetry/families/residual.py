"""Residual networks of convolutions in torchvision's and CIFAR-style names.

Blocks are `layer1.0`, `layer1.1`, ... with `conv1`, `bn1`, `conv2`, ... and, where the stream widens,
a projection in `downsample` or `shortcut`. All tensors that add into a stream share one group. Basic
and bottleneck blocks, grouped convolutions, and pre-activation blocks are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deepalign_cli.symmetry.draft import Draft, ambiguous, misfit, refuse_group_norm
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import common_prefix, group_name, numbers, pieces

_BLOCK = re.compile(r"(?P<block>(?:layers?\d*|stages?\d*|blocks?\d*)\.?\d+(?:\.\d+)?)\.(?P<part>.+)")
_SHORTCUT = re.compile(r"(downsample|shortcut|projection|skip)(\..*)?")


@dataclass(frozen=True)
class ResidualBlock:
    """A residual block: its convolutions and norms in order, and its projection (conv, norm)."""

    path: str
    convs: tuple[Module, ...]
    norms: tuple[Module, ...]
    shortcut: tuple[Module, ...]

    @property
    def into(self) -> int:
        return self.convs[0].shapes["weight"][1]

    @property
    def out(self) -> int:
        return self.convs[-1].shapes["weight"][0]


@dataclass(frozen=True)
class Net:
    """A residual network's parts: stem convolution and norm, blocks, norm before the head, head."""

    stem: Module
    blocks: tuple[ResidualBlock, ...]
    norms: tuple[Module, ...]
    head: Module


def match(layout: Layout) -> Spec | None:
    """The spec of a residual network, or None if this is not one.

    Raises:
        AmbiguousError: a norm or a widening shortcut has two readings.
    """
    prefix = common_prefix(list(layout.shapes))
    net = read(layout.within(prefix))
    return _write(net).with_prefix(prefix) if net else None


def read(layout: Layout) -> Net | None:
    """The parts of a residual network whose names share no prefix, or None if this is not one."""
    blocks: dict[str, list[Module]] = {}
    outside: list[Module] = []
    for module in layout.modules().values():
        match = _BLOCK.fullmatch(module.path)
        blocks.setdefault(match["block"], []).append(module) if match else outside.append(module)
    read = [_read_block(path, blocks[path]) for path in sorted(blocks, key=pieces)]
    convs = [m for m in outside if m.rank == 4]
    heads = [m for m in outside if m.rank == 2]
    norms = [m for m in outside if m.is_norm]
    if not read or len(convs) != 1 or len(heads) != 1 or len(norms) > 2 or len(outside) > 2 + len(norms):
        return None
    whole = [block for block in read if block is not None]
    return Net(convs[0], tuple(whole), tuple(norms), heads[0]) if len(whole) == len(read) else None


def _read_block(path: str, modules: list[Module]) -> ResidualBlock | None:
    cut = len(path) + 1
    shortcut = [m for m in modules if _SHORTCUT.fullmatch(m.path[cut:])]
    main = sorted((m for m in modules if m not in shortcut), key=lambda m: pieces(m.path))
    convs = [m for m in main if m.rank == 4]
    norms = [m for m in main if m.is_norm]
    if len(convs) < 1 or len(convs) + len(norms) != len(main) or len(norms) not in (0, len(convs)):
        return None
    pairs = zip(convs, norms, strict=True) if norms else ()
    if any(numbers(c.path[cut:]) != numbers(n.path[cut:]) for c, n in pairs):
        return None
    projections = [m for m in shortcut if m.rank == 4]
    if len(projections) > 1 or not all(m.is_norm for m in shortcut if m not in projections):
        return None
    return ResidualBlock(path, tuple(convs), tuple(norms), tuple(sorted(shortcut, key=lambda m: -m.rank)))


def _write(net: Net) -> Spec:
    before = norms_come_first(net)
    draft = Draft("residual network, pre-activation" if before else "residual network")
    stream, width = group_name(net.stem.path), net.stem.shapes["weight"][0]
    streams = {stream}
    stem_norms = [] if before else list(net.norms)
    draft.linear(net.stem, stream, str(net.stem.shapes["weight"][1]), marked=not stem_norms)
    for norm in stem_norms:
        _write_norm(draft, norm, stream, width)
    for block in net.blocks:
        stream, width = _write_block(draft, block, stream, width, before)
        streams.add(stream)
    for norm in net.norms if before else ():
        _write_norm(draft, norm, stream, width)
    _write_head(draft, net.head, stream, width)
    draft.pooled.update(draft.spec().groups())
    # Before an activation the stream meets running statistics; depthwise kernels meet a scale twice.
    draft.only_permute(draft.grouped | (streams if before else set()))
    return draft.spec()


def _write_block(
    draft: Draft, block: ResidualBlock, stream: str, width: int, before: bool
) -> tuple[str, int]:
    if block.into != width:
        raise misfit(f"'{block.convs[0].path}' reads {block.into} channels but the stream has {width}.")
    out = _next_stream(block, stream, width)
    axis = stream
    for number, conv in enumerate(block.convs):
        target = out if number == len(block.convs) - 1 else _inner_axis(block, number, axis)
        marked = number == len(block.convs) - 1 if before else not block.norms
        if cardinality(block, number) > 1:
            draft.linear(conv, target, str(conv.shapes["weight"][1]), marked=marked)
            draft.grouped.add(target.partition("*")[0])
        else:
            draft.linear(conv, target, axis, marked=marked)
        if block.norms:
            norm = block.norms[number]
            _write_norm(draft, norm, axis if before else target, conv.shapes["weight"][1 if before else 0])
        axis = target
    _write_shortcut(draft, block, out, stream)
    return out, block.out


def _write_shortcut(draft: Draft, block: ResidualBlock, out: str, stream: str) -> None:
    if block.shortcut and block.shortcut[0].rank == 4:
        draft.linear(block.shortcut[0], out, stream, marked=len(block.shortcut) == 1)
    for norm in block.shortcut:
        if norm.is_norm:
            _write_norm(draft, norm, out, block.out)


def _inner_axis(block: ResidualBlock, number: int, into: str) -> str:
    """The axis between two convolutions of a block; around a grouped one whole groups move."""
    conv, following = block.convs[number], cardinality(block, number + 1)
    channels, own = conv.shapes["weight"][0], cardinality(block, number)
    if own > 1:
        return f"{into.partition('*')[0]}*{channels // own}"
    return group_name(conv.path) if following == 1 else f"{group_name(conv.path)}*{channels // following}"


def cardinality(block: ResidualBlock, number: int) -> int:
    """The number of groups of a block's convolution: the channels that come in over those it reads."""
    conv = block.convs[number]
    per_group = conv.shapes["weight"][1]
    channels = block.convs[number - 1].shapes["weight"][0] if number else per_group
    groups, rest = divmod(channels, per_group)
    if rest or (groups > 1 and number == len(block.convs) - 1):
        raise misfit(f"'{conv.path}' reads {per_group} channels but {channels} come in.")
    return groups


def _next_stream(block: ResidualBlock, stream: str, width: int) -> str:
    if any(m.rank == 4 for m in block.shortcut):
        return group_name(block.path)
    if block.out != width:
        raise ambiguous(
            f"the stream widens from {width} to {block.out} channels in '{block.path}' without a projection, "
            "and nothing says where the padding goes."
        )
    return stream


def norms_come_first(net: Net) -> bool:
    """Whether the blocks are pre-activation: each norm fits the input of its convolution, not the output."""
    pairs = [(c.shapes["weight"], n) for b in net.blocks for c, n in zip(b.convs, b.norms, strict=False)]
    after = all(shape[0] == norm.size for shape, norm in pairs)
    before = all(shape[1] == norm.size for shape, norm in pairs)
    if after and before and pairs:
        raise ambiguous("the norms may stand before or after their convolutions; all widths are equal.")
    if not after and not before:
        raise misfit("the norms fit neither the inputs nor the outputs of their convolutions.")
    return before and bool(pairs)


def _write_norm(draft: Draft, norm: Module, axis: str, size: int) -> None:
    refuse_group_norm(norm)
    if norm.size != size:
        raise misfit(f"'{norm.path}' has {norm.size} units but {size} channels come in.")
    draft.norm(norm, axis)


def _write_head(draft: Draft, head: Module, stream: str, width: int) -> None:
    classes, features = head.shapes["weight"]
    if features % width:
        raise misfit(f"'{head.path}' reads {features} features, not a multiple of {width} channels.")
    draft.linear(head, str(classes), stream if features == width else f"{stream}*{features // width}")
