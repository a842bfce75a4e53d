"""Residual networks of convolutions (1, 2 or 3 dimensions) in torchvision's, CIFAR's and like names.

Blocks are `layer1.0`, `res_blocks.3`, `group2.block1`, ... with `conv1`, `bn1`, `conv2`, ... and, where the
stream widens, a projection in `downsample` or `shortcut`. All tensors that add into a stream share one group.
Basic and bottleneck blocks, grouped convolutions, squeeze-and-excitation and pre-activation blocks are read.
"""

from __future__ import annotations

from deepalign_cli.symmetry.draft import Draft, ambiguous, misfit, refuse_group_norm
from deepalign_cli.symmetry.families import chain
from deepalign_cli.symmetry.families.joins import flattening, joined, nothing_between
from deepalign_cli.symmetry.families.layer import Layer
from deepalign_cli.symmetry.families.residual_parts import Net, ResidualBlock, read
from deepalign_cli.symmetry.layout import Layout, Module
from deepalign_cli.symmetry.spec import Spec
from deepalign_cli.symmetry.tensor_names import common_prefix, group_name


def match(layout: Layout) -> Spec | None:
    """The spec of a residual network, or None if this is not one.

    Raises:
        AmbiguousError: a norm or a widening shortcut has two readings.
    """
    prefix = common_prefix(list(layout.shapes))
    net = read(layout.within(prefix))
    return _write(net).renamed(lambda name: prefix + name) if net else None


def _write(net: Net) -> Spec:
    before = net.norms_first
    draft = Draft("residual network, pre-activation" if before else "residual network")
    stem = net.stem.layers[-1]
    stream, width = group_name(stem.module.path), stem.out
    streams = {stream}
    chain.write(draft, net.stem, target=stream)
    for block in net.blocks:
        stream, width = _write_block(draft, block, stream, width, before)
        streams.add(stream)
    for norm in net.norms:
        _write_norm(draft, norm, stream, width)
    draft.pooled.update(draft.spec().groups())
    if net.head is None:
        draft.hold(stream, width)
    else:
        _write_head(draft, net, stream, width)
    draft.assumptions += _assumed(net)
    # Before an activation the stream meets running statistics; depthwise kernels meet a scale twice.
    draft.only_permute(draft.grouped | (streams if before else set()))
    return draft.spec()


def _assumed(net: Net) -> list[str]:
    """What reading these blocks takes for granted, a line for each thing."""
    lines = joined(net.stem.layers, net.stem.norms)
    grouped = [c.path for b in net.blocks for i, c in enumerate(b.convs) if cardinality(b, i) > 1]
    if grouped:
        lines.append(
            f"channels are assumed not to be shuffled around '{grouped[0]}' and other grouped convolutions"
        )
    bare_stem = len(net.stem.norms) < len(net.stem.layers) and not net.norms_first
    if bare_stem or not all(block.norms for block in net.blocks):
        blocks = [block.convs[0].path for block in net.blocks]
        heads = [layer.module.path for layer in net.head.layers] if net.head else []
        lines.append(nothing_between([layer.module.path for layer in net.stem.layers] + blocks + heads))
    elif net.head and len(net.head.layers) > 1:
        lines.append(nothing_between([layer.module.path for layer in net.head.layers]))
    return lines + _assumed_of_gates(net)


def _assumed_of_gates(net: Net) -> list[str]:
    unclear = [b for b in net.blocks if b.gate and any(c.shapes["weight"][0] == b.out for c in b.convs[:-1])]
    if not unclear:
        return []
    return [
        f"'{unclear[0].gate[0].path}' and its like are assumed to weigh what the last convolutions of their "
        "blocks write"
    ]


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
    _write_gate(draft, block, out)
    _write_shortcut(draft, block, out, stream)
    return out, block.out


def _write_shortcut(draft: Draft, block: ResidualBlock, out: str, stream: str) -> None:
    if block.shortcut and block.shortcut[0].rank > 2:
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
    if any(m.rank > 2 for m in block.shortcut):
        return group_name(block.path)
    if block.out != width:
        raise ambiguous(
            f"the stream widens from {width} to {block.out} channels in '{block.path}' without a projection, "
            "and nothing says where the padding goes."
        )
    return stream


def _write_norm(draft: Draft, norm: Module, axis: str, size: int) -> None:
    refuse_group_norm(norm)
    if norm.size != size:
        raise misfit(f"'{norm.path}' has {norm.size} units but {size} channels come in.")
    draft.norm(norm, axis)


def _write_gate(draft: Draft, block: ResidualBlock, out: str) -> None:
    """Squeeze-and-excitation reads and weighs the block's outputs, which no scale may then touch."""
    if not block.gate:
        return
    squeeze, excite = block.gate
    if squeeze.shapes["weight"][1] != block.out:
        raise ambiguous(
            f"'{squeeze.path}' reads {squeeze.shapes['weight'][1]} channels, not those of its block."
        )
    inner = group_name(squeeze.path)
    draft.linear(squeeze, inner, out, marked=False)
    draft.linear(excite, out, inner, marked=False)
    draft.grouped |= {out, inner}


def _write_head(draft: Draft, net: Net, stream: str, width: int) -> None:
    assert net.head is not None
    first = net.head.layers[0]
    if first.into % width or (first.is_conv and first.into != width):
        raise misfit(
            f"'{first.module.path}' reads {first.into} features, not a multiple of {width} channels."
        )
    chain.write(draft, net.head, source=stream if first.into == width else f"{stream}*{first.into // width}")
    draft.assumptions += flattening([Layer(net.blocks[-1].convs[-1], transposed=False), first])
    draft.assumptions += joined(net.head.layers, net.head.norms)
