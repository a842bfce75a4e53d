"""Elements that round nothing: scales by powers of two, and no half turns, where weights are narrow.

Scaling a unit by 1.3 in bfloat16 rounds each of its weights, and the network is another function by some
tenths of a percent. A power of two changes exponents only, so the function stays the same to the bit as long
as no weight leaves the range of its type; a unit with one that would keeps its scale. Half a turn of a sine's
phase is a number that bfloat16 rounds, so phases of narrow biases rest.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from deepalign_cli.symmetry.element import Element
from deepalign_cli.symmetry.symmetry import Symmetry, Weights
from deepalign_cli.symmetry.tensors import is_narrow, widened


def unrounded(symmetry: Symmetry, g: Element, moving: Weights) -> Element:
    """The element under which no weight is rounded; the same one where none is narrow."""
    resting = {group for group, bias in symmetry.phases.biases.items() if is_narrow(moving[bias])}
    if resting & g.shift.keys():
        g = replace(g, shift={group: turns for group, turns in g.shift.items() if group not in resting})
    places = [
        (place.name, group)
        for group in symmetry.stretching
        if group in g.scale
        for place in symmetry.occurrences[group]
        if place.exponent and is_narrow(moving[place.name])
    ]
    names, groups = tuple(dict.fromkeys(name for name, _ in places)), {group for _, group in places}
    if not groups:
        return g
    scale = {name: _powers(factors) if name in groups else factors for name, factors in g.scale.items()}
    g = replace(g, scale=scale)
    while _reset(symmetry, g, moving, names):
        pass
    return g


def _powers(scale: Tensor) -> Tensor:
    """The powers of two next to the scales, with their signs."""
    return scale.sign() * scale.abs().log2().round().exp2()


def _reset(symmetry: Symmetry, g: Element, moving: Weights, names: tuple[str, ...]) -> bool:
    """Take the scale of every unit with a weight that is rounded; whether there was one."""
    changed = False
    for name in names:
        w = moving[name]
        wide = symmetry.act(g, name, widened(w))
        lost = (wide.to(w.dtype).to(wide.dtype) != wide).float()
        for group in symmetry.groups_of(name) if lost.any() else ():
            units = (symmetry.rows(group, name, lost) > 0).any(dim=1)
            if group in g.scale and bool((g.scale[group].abs()[units] != 1).any()):
                g.scale[group][units] = g.scale[group][units].sign()
                changed = True
    return changed
