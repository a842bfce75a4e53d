"""What is assumed where one layer of a chain meets the next, and which joins have two readings.

Shapes show how wide the values between two layers are, not what happens to them. Each function looks
at one thing: the order, the flattening before a linear layer, skips, transposed convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from deepalign_cli.symmetry.draft import ambiguous
from deepalign_cli.symmetry.families.layer import Layer
from deepalign_cli.symmetry.families.words import has_word, is_last, ordinal, stands_beside, words_before
from deepalign_cli.symmetry.layout import Module
from deepalign_cli.symmetry.tensor_names import common_prefix, parent, stands_before


def assumed(chain: Sequence[Layer], norms: Sequence[Module]) -> list[str]:
    """What reading these layers as a chain takes for granted, a line for each thing.

    Raises:
        AmbiguousError: names or shapes say that something else is as likely.
    """
    lines = joined(chain, norms)
    return [*lines, nothing_between([layer.module.path for layer in chain])] if len(chain) > 1 else lines


def joined(chain: Sequence[Layer], norms: Sequence[Module]) -> list[str]:
    """What is assumed of the joins themselves: order, flattening, skips, transposed convolutions.

    Raises:
        AmbiguousError: as in `assumed`.
    """
    _refuse_other_readings(chain)
    if len(chain) < 2:
        return []
    ordered = [*_order(chain), *_single_channel(chain[0]), *flattening(chain)]
    return [*ordered, *_skips(chain, norms), *_transposed(chain)]


def nothing_between(paths: Sequence[str]) -> str:
    """The assumption of every chain: each layer runs once, and what leaves no tensor treats units alike."""
    names = ", ".join(f"'{path}'" for path in paths) if len(paths) < 4 else f"'{paths[0]}' to '{paths[-1]}'"
    return (
        f"{names} are assumed to run once each and in this order, with nothing between them that leaves no "
        "tensor and mixes units or tells them apart (sorting, softmax, a norm without weights, transposing)"
    )


def _refuse_other_readings(chain: Sequence[Layer]) -> None:
    """Raise AmbiguousError where names or shapes say that this is no plain chain."""
    shared = len(common_prefix([layer.module.path for layer in chain]))
    for i, layer in enumerate(chain):
        path = layer.module.path
        if len(chain) > 1 and (word := stands_beside(path[shared:])):
            raise ambiguous(f"'{path}' may stand beside the other layers, as '{word}' says, not in one line.")
        if i and layer.depthwise_after(chain[i - 1]) and chain[0].into == 1:
            raise ambiguous(
                f"'{path}' may convolve each channel of '{chain[i - 1].module.path}', or read an input of "
                "one channel."
            )
    for first, second in pairwise(chain):
        _refuse_countdown(first, second)
        if first.is_conv == second.is_conv:
            _refuse_wrong_words(first.module.path, second.module.path)


def follows_words(order: Sequence[Layer]) -> bool:
    """Whether no word (input, encoder, decoder, out) says the contrary of an order."""
    pairs = ((a, b) for i, a in enumerate(order) for b in order[i + 1 :] if a.is_conv == b.is_conv)
    return not any(words_before(b.module.path, a.module.path) for a, b in pairs)


def _refuse_countdown(first: Layer, second: Layer) -> None:
    """Decoders are numbered upwards or downwards; where widths are equal both fit."""
    names = [layer.module.path.rpartition(".")[2] for layer in (first, second)]
    if (
        all(has_word(name, ("dec", "up", "deconv")) for name in names)
        and first.out == first.into == second.out
    ):
        one, other = first.module.path, second.module.path
        raise ambiguous(f"decoders may be numbered downwards: '{one}' and '{other}' fit in both orders.")


def _are_heads(first: str, second: str) -> bool:
    """Whether two layers are numbered heads or outputs, such as `head1` and `head2`."""
    names = [path.rpartition(".")[2] for path in (first, second)]
    return all(is_last(name) for name in names) and len({name.rstrip("0123456789") for name in names}) == 1


def _refuse_wrong_words(first: str, second: str) -> None:
    if not stands_before(first, second) and words_before(second, first):
        raise ambiguous(f"the shapes put '{first}' before '{second}', and their names say the contrary.")
    if parent(first) == parent(second) and (_are_heads(first, second) or _variants(first, second)):
        raise ambiguous(
            f"'{first}' and '{second}' may stand beside one another; nothing says which is first."
        )


def _variants(first: str, second: str) -> bool:
    """Whether two names differ in what follows a shared word (`head_a`, `head_b`) that tells no order."""
    one, other = (path.rpartition(".")[2].replace("-", "_").split("_") for path in (first, second))
    shared = len(one) > 1 and len(other) > 1 and one[0] == other[0] and one[1:] != other[1:]
    told = stands_before(first, second) or words_before(first, second)
    counted = ordinal(first) is not None and ordinal(second) is not None
    return shared and not told and not counted


def _refuse_concatenation(chain: Sequence[Layer], first: Layer, second: Layer) -> None:
    """Refuse a linear layer that reads every channel twice, or once for each of like convolutions."""
    if not first.is_conv or second.is_conv:
        return
    times = second.into // first.out
    alike = [layer for layer in chain if layer.is_conv and (layer.out, layer.into) == (first.out, first.into)]
    if times == 2 or (times > 1 and times == len(alike)):
        raise ambiguous(
            f"'{second.module.path}' reads {second.into} numbers, {times} for each channel of "
            f"'{first.module.path}': a concatenation, or {times} places of an image."
        )


def _order(chain: Sequence[Layer]) -> list[str]:
    return [
        f"'{a.module.path}' is assumed to feed '{b.module.path}', which their shapes alone suggest"
        for a, b in pairwise(chain)
        if not _order_is_told(a, b)
    ]


def _single_channel(first: Layer) -> list[str]:
    """A convolution of each input channel on its own has the same shapes, and its units are labelled."""
    if not first.is_conv or first.into != 1 or first.out == 1:
        return []
    return [f"'{first.module.path}' is assumed to read an input of one channel, not several one by one"]


def _order_is_told(first: Layer, second: Layer) -> bool:
    one, other = first.module.path, second.module.path
    if first.is_conv and not second.is_conv:
        return True
    a, b = ordinal(one), ordinal(other)
    if a is not None and b is not None:
        return a < b
    return bool(stands_before(one, other) or words_before(one, other))


def flattening(chain: Sequence[Layer]) -> list[str]:
    """What is assumed where a linear layer reads several numbers of each channel.

    Raises:
        AmbiguousError: it may read every channel twice, or once for each of several convolutions.
    """
    for first, second in pairwise(chain):
        _refuse_concatenation(chain, first, second)
    return [
        f"'{b.module.path}' is assumed to read the {b.into // a.out} places of each of the {a.out} channels "
        f"of '{a.module.path}' one channel after the other, with nothing else beside them"
        for a, b in pairwise(chain)
        if a.is_conv and not b.is_conv and b.into != a.out
    ]


def _skips(chain: Sequence[Layer], norms: Sequence[Module]) -> list[str]:
    """Equal widths between which a skip connection may run, outside of one Sequential."""
    widths: dict[tuple[bool, int], list[str]] = {}
    hidden: set[tuple[bool, int]] = set()
    for place in range(len(chain) + 1):
        inner = 0 < place < len(chain)
        if inner and _in_one_sequential(chain[place - 1], chain[place], chain, norms):
            continue
        layer = chain[max(place - 1, 0)]
        if place and inner and chain[place].depthwise_after(chain[place - 1]):
            continue
        width = (layer.is_conv, layer.out if place else layer.into)
        hidden |= {width} if inner else set()
        widths.setdefault(width, []).append(f"'{layer.module.path}'" if place else "the inputs")
    lines = []
    for width, ends in widths.items():
        if width in hidden and len(ends) > 1:
            ends = ends if len(ends) < 5 else [*ends[:2], f"{len(ends) - 3} more", ends[-1]]
            lines.append(
                f"no skip connection is assumed between {', '.join(ends[:-1])} and {ends[-1]}, "
                f"which are all {width[1]} wide"
            )
    return lines


def _in_one_sequential(first: Layer, second: Layer, chain: Sequence[Layer], norms: Sequence[Module]) -> bool:
    """Whether two layers stand in one `Sequential`, whose values between layers nothing else can read.

    Numbers left out, or norms between, tell a Sequential from a list of layers.
    """
    above = parent(first.module.path)
    if parent(second.module.path) != above:
        return False
    members = [m.path for m in (*(layer.module for layer in chain), *norms) if parent(m.path) == above]
    last = [path.rpartition(".")[2] for path in members]
    if not all(word.isdigit() for word in last):
        return False
    places = sorted(map(int, last))
    return any(b - a > 1 for a, b in pairwise(places)) or any(parent(norm.path) == above for norm in norms)


def _transposed(chain: Sequence[Layer]) -> list[str]:
    """Square kernels fit transposed convolutions; even ones are most often those."""
    lines = []
    decodes = chain[-1].is_conv
    for layer in chain:
        shape = layer.module.shapes["weight"]
        if not layer.is_conv or shape[0] != shape[1] or max(shape[2:]) == 1:
            continue
        path = layer.module.path
        if set(shape[2:]) <= {2, 4}:
            raise ambiguous(f"'{path}' {list(shape)} may be a convolution or a transposed one.")
        if decodes:
            lines.append(f"'{path}' {list(shape)} is assumed to be a convolution, not a transposed one")
    return lines
